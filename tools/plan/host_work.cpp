#include "tools/plan/host_work.h"

#include <algorithm>

#include "cpu/codec/sketch.h"
#include "cpu/row_layout.h"
#include "lsh/selection_cost.h"

namespace tandem::plan {
namespace {

constexpr double kNano = 1e-9;
/// Rows that one worker scans: a head's scan is shared in pieces of so many, and what comes before and behind it is one
/// worker's, however many are idle.
constexpr double kPieceRows = 8192;

struct Work {
  const System& system;
  const ModelShape& model;
  const StepSettings& settings;
  const StepRates& rates;
  double heads;  // KV heads of all sequences
  double rows;   // of each
  cpu::RowLayout layout;

  /// `cost_ns` of one head by its workers; `bytes_s` seconds to move all heads' bytes.
  [[nodiscard]] double seconds(double cost_ns, double bytes_s) const {
    const double workers_s = heads * cost_ns * kNano / (system.num_workers() * rates.worker_speed);
    return system.step_costs ? workers_s : std::max(workers_s, bytes_s);
  }

  [[nodiscard]] lsh::SelectionCost cost(const lsh::SelectorParams& params) const {
    return {system.step_costs.value_or(lsh::CostProfile{}), params, layout, model.group_size()};
  }

  [[nodiscard]] double dense() const {
    const double bytes = heads * rows * static_cast<double>(layout.kv_bytes);
    return seconds(cost(lsh::SelectAllParams{}).dense_ns(rows), bytes / rates.host_bytes_per_s);
  }

  [[nodiscard]] double sketched() const {
    const lsh::SketchParams params{.budget = settings.budget, .bits_per_dim = settings.sketch_bits};
    const double drawn = std::min(rows, std::max<double>(lsh::kFewestDrawn, settings.budget * rows));
    const double scanned_bytes = rows * (cpu::sketch_code_bytes(model.head_dim, settings.sketch_bits) + 2);
    const double bytes_s = heads * (scanned_bytes / rates.host_bytes_per_s +
                                    drawn * static_cast<double>(layout.kv_bytes) / rates.gather_bytes_per_s);
    const lsh::SelectionCost costs = cost(params);
    const double one_head = costs.select_ns(std::min(rows, kPieceRows)) * kNano / rates.worker_speed;
    return std::min(dense(), std::max(one_head, seconds(costs.select_ns(rows), bytes_s)));
  }

  [[nodiscard]] double magicpig() const {
    constexpr double kIdBytes = 4;
    const double q_heads = heads * model.group_size();
    const double ids = settings.lsh_tables * rows / static_cast<double>(1 << settings.lsh_bits);
    const double bytes = settings.budget * rows * static_cast<double>(layout.kv_bytes) + kIdBytes * ids;
    return q_heads * bytes / rates.magicpig_bytes_per_s;
  }
};

}  // namespace

double host_rows(const ModelShape& model, const StepSettings& settings) noexcept {
  return static_cast<double>(std::max<std::int64_t>(0, model.visible(settings.context) - settings.window));
}

double host_seconds(const System& system, const ModelShape& model, const StepSettings& settings, const StepRates& rates,
                    int sequences) {
  const AttentionShape shape{1, model.num_q_heads, model.num_kv_heads, model.head_dim, model.head_dim, 1.f, 0.f};
  const Work work{system,
                  model,
                  settings,
                  rates,
                  static_cast<double>(sequences) * model.num_kv_heads,
                  host_rows(model, settings),
                  cpu::RowLayout::of(shape, settings.host_dtype)};
  if (work.rows <= 0 || !attends_on_host(settings.method)) return 0;
  if (settings.method == Method::tandem) return work.sketched();
  return settings.method == Method::magicpig ? work.magicpig() : work.dense();
}

}  // namespace tandem::plan
