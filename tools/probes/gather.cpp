#include "tools/probes/gather.h"

#include "tools/probes/read_lines.h"
#include "tools/probes/scatter.h"

namespace tandem::probes {
namespace {

constexpr std::int64_t kRowsAhead = 32;

template <bool kPrefetch>
std::uint64_t gather(const std::byte* array, const Scatter& order, std::int64_t row_bytes, std::int64_t begin,
                     std::int64_t end) {
  std::uint64_t total = 0;
  for (std::int64_t i = begin; i < end; ++i) {
    if (kPrefetch) ask_for_row(array + order(i + kRowsAhead) * row_bytes, row_bytes);
    total ^= read_lines(array + order(i) * row_bytes, row_bytes);
  }
  return total;
}

}  // namespace

double gather_gb_per_s(Team& team, const std::byte* array, std::int64_t bytes, const GatherPlan& plan) {
  const Scatter order(bytes / plan.row_bytes);
  const std::int64_t each = plan.rows / team.members();
  const double us = team.run([&](int t) {
    const std::int64_t begin = plan.first + t * each;
    keep(plan.prefetch ? gather<true>(array, order, plan.row_bytes, begin, begin + each)
                       : gather<false>(array, order, plan.row_bytes, begin, begin + each));
  });
  return static_cast<double>(each * team.members() * plan.row_bytes) / (us * 1000);
}

}  // namespace tandem::probes
