#include "runtime/step_errors.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "lsh/estimate.h"

namespace tandem {

VectorError estimated_error(cpu::SampleSpread spread, ConstPartialAttention host, ConstPartialAttention merged,
                            std::int64_t v) noexcept {
  const std::int64_t dim = merged.dim;
  const double share = std::exp(static_cast<double>(host.lse[v]) - merged.lse[v]);
  const float* out = merged.out + v * dim;
  const double norm = std::sqrt(std::inner_product(out, out + dim, out, 0.0));
  const double error = lsh::out_error(spread.weight[v], spread.value + v * dim, spread.square[v], share, out, dim);
  const double relative = error > 0 ? (norm > 0 ? error / norm : 1.0) : 0.0;  // an out of 0 is off by all of it
  return {relative, share * std::sqrt(static_cast<double>(spread.weight[v]))};
}

void report_errors(const StepContext& step, const Task& task, const cpu::QueryBlock& queries,
                   const cpu::LogitRule& logits, ConstPartialAttention host, ConstPartialAttention merged,
                   TaskMemory& memory, StepStats& stats) {
  constexpr double kUnknown = std::numeric_limits<double>::infinity();
  constexpr double kMost = std::numeric_limits<float>::max();
  const bool both_tiers = step.request.use_window && step.request.use_host;
  const double format_error = cpu::typical_error(step.config.host_dtype);
  for (std::int64_t v = 0; v < host.rows; ++v) {
    const std::int64_t query = v / queries.group_size;
    bool known = both_tiers && (task.exact || task.selector->estimates_error());
    bool certified = known && memory.certified[static_cast<std::size_t>(query)] != 0;
    VectorError error;
    if (visible_rows(task, logits, queries.positions[query]).count() > 0) {
      known = known && !std::isinf(host.lse[v]);
      certified = certified && known && format_error == 0;
      if (known) error = estimated_error(memory.spread(), host, merged, v);
      if (known && format_error > 0) {
        const double share = std::exp(static_cast<double>(host.lse[v]) - merged.lse[v]);
        error.out = std::hypot(error.out, share * format_error);
      }
    }
    stats.lse_error += known ? error.lse : kUnknown;
    stats.out_error += known ? error.out : kUnknown;
    stats.uncertified += certified ? 0 : 1;
    const std::int64_t at = (task.first_row + query) * step.config.shape.num_q_heads + task.head * queries.group_size +
                            v % queries.group_size;
    if (step.request.error != nullptr)
      step.request.error[at] = known ? static_cast<float>(std::min(error.out, kMost)) : -1.f;
    if (step.request.certified != nullptr) step.request.certified[at] = certified ? 1 : 0;
  }
}

}  // namespace tandem
