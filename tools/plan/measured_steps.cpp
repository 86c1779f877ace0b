#include "tools/plan/measured_steps.h"

#include <algorithm>

#include "cpu/codec/sketch.h"
#include "cpu/row_layout.h"
#include "lsh/selection_cost.h"
#include "tools/plan/json_file.h"
#include "tools/plan/least_squares.h"
#include "tools/plan/object_fields.h"

namespace tandem::plan {
namespace {

constexpr std::int64_t kLongestFitted = 32768;
constexpr double kShareOfSeveralWorkers = 0.85;
constexpr double kNanosecondsOfMicro = 1e3;
constexpr double kShortStepUs = 1000;

/// The costs that are fitted.
constexpr double lsh::CostProfile::*kFitted[] = {
    &lsh::CostProfile::dense_row_ns, &lsh::CostProfile::gathered_row_ns, &lsh::CostProfile::scanned_row_1bit_ns,
    &lsh::CostProfile::scanned_row_2bit_ns, &lsh::CostProfile::selection_ns};

lsh::CostProfile with(const std::vector<double>& fitted) {
  lsh::CostProfile costs;
  for (std::size_t i = 0; i < std::size(kFitted); ++i) costs.*kFitted[i] = fitted[i];
  return costs;
}

int integer_or(const Json& object, const char* name, int fallback) {
  return object.contains(name) ? object.at(name).get<int>() : fallback;
}

bool is_ours(const Json& selector) {
  const std::string kind = selector.value("kind", "");
  constexpr const char* kKinds[] = {"all", "sketch", "sketch_topk", "lsh", "topk"};
  const bool known = std::find(std::begin(kKinds), std::end(kKinds), kind) != std::end(kKinds);
  return known && !selector.contains("error");
}

/// Which heads get two bits depends on the data; the index of the others is smaller.
double two_bit_share(int sketch_bits, int head_dim, double index_bytes) {
  constexpr double kFactorBytes = 2;
  if (sketch_bits != 0) return sketch_bits - 1;
  const double one = cpu::sketch_code_bytes(head_dim, 1) + kFactorBytes;
  const double two = cpu::sketch_code_bytes(head_dim, 2) + kFactorBytes;
  return std::clamp((index_bytes - one) / (two - one), 0.0, 1.0);
}

MeasuredStep step_from(const Json& row, const Json& settings, const std::string& path) {
  const Json& selector = row.at("selector");
  MeasuredStep step;
  step.name = row.at("name").get<std::string>();
  step.selector = selector.at("kind").get<std::string>();
  step.budget = selector.value("budget", step.budget);
  step.sketch_bits = integer_or(selector, "sketch_bits", step.sketch_bits);
  step.lsh_bits = integer_or(selector, "lsh_bits", step.lsh_bits);
  step.lsh_tables = integer_or(selector, "lsh_tables", step.lsh_tables);
  step.tokens = row.at("tokens").get<std::int64_t>();
  step.window = settings.at("sink_tokens").get<std::int64_t>() + settings.at("local_tokens").get<std::int64_t>();
  step.threads = row.at("threads").get<int>();
  step.batch = row.at("batch").get<int>();
  step.num_q_heads = settings.at("num_q_heads").get<int>();
  step.num_kv_heads = settings.at("num_kv_heads").get<int>();
  step.head_dim = settings.at("head_dim").get<int>();
  step.host_dtype = parse_row_format(path + ".host_dtype", row.at("host_dtype").get<std::string>());
  step.median_us = row.at("us").at("median").get<double>();
  step.two_bit_heads = two_bit_share(step.sketch_bits, step.head_dim, row.at("index_bytes_per_token").get<double>());
  const bool sane = step.tokens > 0 && step.threads > 0 && step.batch > 0 && step.num_kv_heads > 0 &&
                    step.num_q_heads % step.num_kv_heads == 0 && step.head_dim > 0 && step.median_us > 0;
  TANDEM_CHECK(sane, invalid_argument, path, " has tokens, threads, batch, heads or a time that no step has");
  return step;
}

double heads_ns(const MeasuredStep& step, const lsh::CostProfile& costs, const lsh::SelectorParams& params) {
  const AttentionShape shape{1, step.num_q_heads, step.num_kv_heads, step.head_dim, step.head_dim, 1.f, 0.f};
  const lsh::SelectionCost cost(costs, params, cpu::RowLayout::of(shape, step.host_dtype),
                                step.num_q_heads / step.num_kv_heads);
  const auto window = static_cast<double>(std::min(step.window, step.tokens));
  const double rows = static_cast<double>(step.tokens) - window;
  const bool all = std::holds_alternative<lsh::SelectAllParams>(params);
  return step.batch * step.num_kv_heads * (cost.dense_ns(window) + (all ? cost.dense_ns(rows) : cost.select_ns(rows)));
}

double all_heads_ns(const MeasuredStep& step, const lsh::CostProfile& costs) {
  if (step.selector == "all") return heads_ns(step, costs, lsh::SelectAllParams{});
  if (step.selector == "topk") return heads_ns(step, costs, lsh::TopKParams{.budget = step.budget});
  if (step.selector == "lsh")
    return heads_ns(step, costs, lsh::LshParams{.bits_per_table = step.lsh_bits, .num_tables = step.lsh_tables});
  const auto sketch = [&](int bits) {
    return heads_ns(step, costs, lsh::SketchParams{.budget = step.budget, .bits_per_dim = bits});
  };
  return (1 - step.two_bit_heads) * sketch(1) + step.two_bit_heads * sketch(2);
}

}  // namespace

bool MeasuredStep::is_for_fitting() const noexcept {
  const bool known = selector == "all" || (selector == "sketch" && sketch_bits > 0);
  return known && threads == 1 && batch == 1 && tokens <= kLongestFitted;
}

std::vector<MeasuredStep> measured_steps_from(const Json& result, const std::string& origin) {
  std::vector<MeasuredStep> steps;
  try {
    TANDEM_CHECK(result.at("benchmark") == "decode_step", invalid_argument, origin, ".benchmark is ",
                 result.at("benchmark").dump(), "; allowed: \"decode_step\"");
    const Json& rows = result.at("rows");
    for (std::size_t i = 0; i < rows.size(); ++i)
      if (is_ours(rows[i].at("selector")))
        steps.push_back(step_from(rows[i], result.at("settings"), concat(origin, ".rows[", i, "]")));
  } catch (const Json::exception& error) {
    fail(ErrorCode::invalid_argument, origin, " is not a result of decode_step: ", error.what());
  }
  for (MeasuredStep& step : steps) step.file = std::filesystem::path(origin).stem().string();
  return steps;
}

std::vector<MeasuredStep> load_measured_steps(const std::filesystem::path& folder) {
  TANDEM_CHECK(std::filesystem::is_directory(folder), io, folder.string(), " is not a folder");
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.find("decode_step") != std::string::npos && name.ends_with(".json")) files.push_back(entry.path());
  }
  TANDEM_CHECK(!files.empty(), io, folder.string(), " has no file *decode_step*.json");
  std::sort(files.begin(), files.end());
  std::vector<MeasuredStep> steps;
  for (const auto& file : files) {
    std::vector<MeasuredStep> more = measured_steps_from(json_file(file), file.string());
    std::move(more.begin(), more.end(), std::back_inserter(steps));
  }
  return steps;
}

lsh::CostProfile fit_step_costs(const std::vector<MeasuredStep>& steps) {
  std::vector<MeasuredStep> fitted;
  std::copy_if(steps.begin(), steps.end(), std::back_inserter(fitted),
               [](const auto& s) { return s.is_for_fitting(); });
  TANDEM_CHECK(fitted.size() >= std::size(kFitted), invalid_argument, "only ", fitted.size(),
               " measured steps are of one worker, one sequence and at most ", kLongestFitted,
               " tokens; step costs need at least ", std::size(kFitted));
  std::vector<double> start;
  for (const auto cost : kFitted) start.push_back(lsh::CostProfile{}.*cost);
  const auto errors = [&](const std::vector<double>& costs) {
    std::vector<double> all;
    for (const MeasuredStep& step : fitted) all.push_back(predicted_us(step, with(costs)) / step.median_us - 1);
    return all;
  };
  return with(least_squares(errors, start));
}

double predicted_us(const MeasuredStep& step, const lsh::CostProfile& costs) {
  const double workers = step.threads == 1 ? 1 : kShareOfSeveralWorkers * step.threads;
  return all_heads_ns(step, costs) / workers / kNanosecondsOfMicro;
}

std::vector<Check> check_steps(const std::vector<MeasuredStep>& steps, const lsh::CostProfile& costs) {
  std::vector<Check> checks;
  for (const MeasuredStep& step : steps) {
    Check check;
    check.series = step.file;
    check.what = concat(step.name, ", ", step.batch, " x ", step.tokens, ", ", step.num_kv_heads, " KV heads");
    check.machine = concat(step.threads, step.threads == 1 ? " worker" : " workers");
    check.unit = "us";
    check.known = step.median_us;
    const double us = predicted_us(step, costs);
    check.predicted = {us, us * (1 - kMostError), us * (1 + kMostError)};
    check.fit = step.is_for_fitting();
    if (step.threads > 1 && us < kShortStepUs)
      check.unexplained = "steps below 1 ms gain little from more workers: waking one takes 40 to 100 us";
    checks.push_back(std::move(check));
  }
  return checks;
}

}  // namespace tandem::plan
