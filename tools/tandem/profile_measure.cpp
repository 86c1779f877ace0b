#include "tools/tandem/profile_measure.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "lsh/selection_cost.h"
#include "tools/probes/memory_reader.h"
#include "tools/tandem/replay.h"
#include "tools/tandem/small_matrix.h"
#include "tools/tandem/synthetic_trace.h"

namespace tandem::cli {
namespace {

constexpr int kGroup = 4, kLargeGroup = 16, kHeadDim = 128;

/// Lower quartiles of one query token of one KV head: whatever else the machine does only makes steps slower.
struct Sample {
  double select_ns = 0;
  double attend_ns = 0;
  double rows = 0;
  double gathered = 0;
};

struct Line {
  double slope;
  double start;  // at 0
};
Line line_through(double x0, double y0, double x1, double y1) {
  const double slope = (y1 - y0) / (x1 - x0);
  return {slope, y0 - slope * x0};
}

double quartile(std::vector<double> values) {
  const auto lower = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 4);
  std::nth_element(values.begin(), lower, values.end());
  return *lower;
}

td_selector selector_of(std::int32_t kind) {
  auto selector = td::make<td_selector>();
  selector.kind = kind;
  if (kind == TD_SELECT_TOP_K || kind == TD_SELECT_SKETCH) selector.budget = 0.02;
  return selector;
}

td_selector sketch(std::int32_t bits) {
  auto selector = selector_of(TD_SELECT_SKETCH);
  selector.sketch_bits = bits;
  return selector;
}

/// Takes the steps, one selector and length after another.
class Measurement {
 public:
  explicit Measurement(const ProfilePlan& plan)
      : plan_(plan),
        threads_(num_threads(plan.common)),
        wash_(numa::Topology::detect(), plan.cache_bytes + plan.cache_bytes / 4),
        progress_("measuring", 8 * plan.long_tokens + 3 * plan.short_tokens + 11 * work_of_steps()) {}

  [[nodiscard]] SyntheticTrace trace(std::int64_t tokens, int group) const {
    SyntheticShape shape;
    shape.tokens = tokens;
    shape.steps = plan_.steps;
    shape.num_kv_heads = plan_.kv_heads;
    shape.num_q_heads = plan_.kv_heads * group;
    shape.head_dim = kHeadDim;
    return {shape, threads_};
  }

  Sample sample(const SyntheticTrace& made, const td_selector& selector) {
    const tools::Trace trace{made.meta(), {made.layer()}};
    auto config = td::make<td_config>();
    config.num_layers = 1;
    config.num_q_heads = trace.meta.num_q_heads;
    config.num_kv_heads = trace.meta.num_kv_heads;
    config.head_dim_k = config.head_dim_v = kHeadDim;
    config.sink_tokens = 4;
    config.local_tokens = 64;
    config.window_dtype = config.host_dtype = TD_BF16;
    config.selector = &selector;
    config.never_slower = TD_OFF;
    apply(plan_.common, config);
    const auto runtime = make_runtime(config);
    Replay replay(runtime, trace);
    replay.add_copy(progress_);
    return steps(replay);
  }

 private:
  [[nodiscard]] std::int64_t work_of_steps() const noexcept { return plan_.steps * kWorkOfStep; }

  Sample steps(Replay& replay) {
    std::vector<double> select, attend, rows, gathered;
    const double tasks = plan_.kv_heads;
    for (std::int64_t step = 0; step < plan_.steps; ++step) {
      replay.catch_up(0, step);
      (void)wash_.read(threads_);  // as a model's weights and its other layers do between two steps of one layer
      const td_stats stats = replay.step(0, 0, step).attend;
      select.push_back(stats.us[TD_SELECT] * 1000 / tasks);
      attend.push_back(stats.us[TD_ATTEND] * 1000 / tasks);
      rows.push_back(static_cast<double>(stats.rows_host) / tasks);
      gathered.push_back(static_cast<double>(stats.rows_gathered) / tasks);
      progress_.advance(kWorkOfStep);
    }
    return {quartile(select), quartile(attend), quartile(rows), quartile(gathered)};
  }

  static constexpr std::int64_t kWorkOfStep = 512;  // of progress, where a prompt token is 1
  const ProfilePlan& plan_;
  int threads_;
  probes::MemoryReader wash_;  // reading it leaves nothing else in the caches
  Progress progress_;
};

/// The agreement of bits for which tables would give the share of rows that they gave.
double agreement_for(double share) {
  double low = 0.4;
  double high = 1.0;
  for (int i = 0; i < 50; ++i) {
    const double middle = (low + high) / 2;
    (lsh::expected_share({}, middle, kGroup) < share ? low : high) = middle;
  }
  return high;
}

/// Rows, ids and buckets that a selection touches are different for each of three table shapes: three equations for
/// three costs. What noise would make of them alone is held near the built-in figures.
void fit_tables(Measurement& measurement, const SyntheticTrace& trace, lsh::CostProfile& profile) {
  constexpr lsh::LshParams kShapes[] = {{.bits_per_table = 10, .num_tables = 150},
                                        {.bits_per_table = 12, .num_tables = 150},
                                        {.bits_per_table = 12, .num_tables = 30}};
  constexpr double kHold = 0.03;  // weight of a built-in figure beside a measured time; both count relatively
  double* figures[] = {&profile.table_row_ns, &profile.table_id_ns, &profile.table_read_ns};
  double sums[3][3] = {
      {kHold}, {0, kHold}, {0, 0, kHold}};  // of the normal equations, in units of the built-in figures
  std::vector<double> right(3, kHold);
  for (const lsh::LshParams& shape : kShapes) {
    auto selector = selector_of(TD_SELECT_LSH);
    selector.lsh_bits = shape.bits_per_table;
    selector.lsh_tables = shape.num_tables;
    const Sample s = measurement.sample(trace, selector);
    if (&shape == kShapes) profile.lsh_bit_agreement = agreement_for(s.gathered / s.rows);
    const double lists = static_cast<double>(shape.num_tables) * kGroup;
    const double ids = s.rows * lists * std::pow(profile.lsh_bit_agreement, shape.bits_per_table);
    const double counts[] = {s.rows, ids, lists};
    double terms[3];
    for (int i = 0; i < 3; ++i) terms[i] = counts[i] * *figures[i] / s.select_ns;
    for (int i = 0; i < 3; ++i) {
      right[static_cast<std::size_t>(i)] += terms[i];
      for (int j = 0; j < 3; ++j) sums[i][j] += terms[i] * terms[j];
    }
  }
  solve_spd({&sums[0][0], &sums[0][0] + 9}, 3, right, 1);
  for (std::size_t i = 0; i < 3; ++i) *figures[i] *= std::max(0.25, right[i]);
}

/// Three digits: more would be noise. Inside what the field may be.
void tidy(lsh::CostProfile& profile) {
  for (const lsh::CostField& field : lsh::kCostFields) {
    double& value = profile.*field.value;
    const double unit = std::pow(10.0, std::floor(std::log10(std::max(value, field.least))) - 2);
    value = std::clamp(std::round(value / unit) * unit, field.least, field.most);
  }
}

}  // namespace

ProfilePlan ProfilePlan::quick() {
  ProfilePlan plan;
  plan.short_tokens = 1536;
  plan.long_tokens = 6144;
  plan.steps = 5;
  plan.kv_heads = 4;
  return plan;
}

lsh::CostProfile measure_profile(const ProfilePlan& plan) {
  Measurement measurement(plan);
  lsh::CostProfile profile;
  double fixed[2];
  {
    const SyntheticTrace brief = measurement.trace(plan.short_tokens, kGroup);
    const SyntheticTrace trace = measurement.trace(plan.long_tokens, kGroup);
    const auto all = selector_of(TD_SELECT_ALL);
    const Sample d0 = measurement.sample(brief, all), d1 = measurement.sample(trace, all);
    const Line dense = line_through(d0.rows, d0.attend_ns, d1.rows, d1.attend_ns);
    profile.dense_row_ns = dense.slope;
    double* scans[] = {&profile.scanned_row_1bit_ns, &profile.scanned_row_2bit_ns};
    for (int bits = 1; bits <= 2; ++bits) {
      const Sample s0 = measurement.sample(brief, sketch(bits)), s1 = measurement.sample(trace, sketch(bits));
      const Line scan = line_through(s0.rows, s0.select_ns, s1.rows, s1.select_ns);
      const Line gather = line_through(s0.gathered, s0.attend_ns, s1.gathered, s1.attend_ns);
      *scans[bits - 1] = scan.slope;
      profile.gathered_row_ns = gather.slope;
      fixed[bits - 1] = scan.start + gather.start - dense.start;
    }
    profile.selection_ns = std::max(fixed[0], fixed[1]);
    const Sample top = measurement.sample(trace, selector_of(TD_SELECT_TOP_K));
    profile.scored_row_ns = top.select_ns / top.rows;
    fit_tables(measurement, trace, profile);
  }
  const SyntheticTrace wide = measurement.trace(plan.long_tokens, kLargeGroup);
  const Sample all = measurement.sample(wide, selector_of(TD_SELECT_ALL));
  profile.query_vector_ns = (all.attend_ns / all.rows - profile.dense_row_ns) / (kLargeGroup - kGroup);
  tidy(profile);
  return profile;
}

}  // namespace tandem::cli
