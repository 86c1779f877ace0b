#include "tools/tandem/replay_report.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "runtime/base/dtype.h"
#include "tools/tandem/dense_steps.h"
#include "tools/tandem/statistics.h"
#include "tools/tandem/table.h"

namespace tandem::cli {
namespace {

/// Largest |out - dec_out| over the heads of one step.
double difference_to_recorded(const tools::Tensor& recorded, std::int64_t step, const LayerStep& result) {
  const std::int64_t heads = recorded.shape[0];
  const std::int64_t dim = recorded.shape[2];
  std::vector<float> row(static_cast<std::size_t>(dim));
  double largest = 0;
  for (std::int64_t h = 0; h < heads; ++h) {
    const auto offset = (h * recorded.shape[1] + step) * dim * static_cast<std::int64_t>(bytes_of(recorded.dtype));
    load_f32(recorded.dtype, recorded.data + offset, row.data(), dim);
    for (std::int64_t i = 0; i < dim; ++i) {
      const double difference = result.out[static_cast<std::size_t>(h * dim + i)] - row[static_cast<std::size_t>(i)];
      largest = std::max(largest, std::abs(difference));
    }
  }
  return largest;
}

}  // namespace

void LayerSamples::add(std::int64_t step, const LayerStep& result) {
  for (std::int64_t h = 0; h < meta_.num_q_heads; ++h) {
    const std::int64_t row = step * meta_.num_q_heads + h;
    errors_.push_back(relative_error(result.out.data() + h * meta_.head_dim_v,
                                     exact_.out.data() + row * meta_.head_dim_v, meta_.head_dim_v));
    lse_errors_.push_back(
        std::abs(result.lse[static_cast<std::size_t>(h)] - exact_.lse[static_cast<std::size_t>(row)]));
    add_estimate(result.error_estimates[static_cast<std::size_t>(h)],
                 result.certified[static_cast<std::size_t>(h)] != 0);
  }
  if (layer_.dec_out.data != nullptr)
    recorded_diff_ = std::max(recorded_diff_, difference_to_recorded(layer_.dec_out, step, result));

  const auto& stats = result.attend;
  // A step of one sequence has one task per KV head: the other workers have nothing to do.
  const double workers = std::clamp(stats.num_workers, 1, std::max(meta_.num_kv_heads, 1));
  us_[kAppend].push_back(result.append.total_us);
  us_[kWindow].push_back(stats.us[TD_WINDOW] / workers);
  us_[kSelect].push_back(stats.us[TD_SELECT] / workers);
  us_[kAttend].push_back(stats.us[TD_ATTEND] / workers);
  us_[kMerge].push_back(stats.us[TD_MERGE] / workers);
  us_[kTotal].push_back(stats.total_us);
  bytes_ += stats.bytes[TD_WINDOW] + stats.bytes[TD_SELECT] + stats.bytes[TD_ATTEND];
  rows_window_ += stats.rows_window;
  rows_host_ += stats.rows_host;
  rows_gathered_ += stats.rows_gathered;
  keys_visible_ += stats.keys_visible;
  keys_attended_ += stats.keys_attended;
  lse_error_estimates_.push_back(stats.lse_error);
  dense_steps_ += is_dense(stats) ? 1 : 0;
  selected_ = selected_ || stats.us[TD_SELECT] > 0;
  ++steps_;
}

void LayerSamples::add_estimate(double estimate, bool certified) {
  error_estimates_.push_back(estimate);
  if (!certified) return;
  ++certified_;
  if (estimate <= 0) return;  // nothing was sampled
  ++estimated_;
  if (errors_.back() <= 2 * estimate) ++covered_;
}

void LayerSamples::add_index(const td_seq_info& info) {
  indexed_rows_ += static_cast<double>(info.host_rows * meta_.num_kv_heads);
  index_build_us_ += info.index_build_us;
  index_bytes_ += info.index_bytes;
}

Json LayerSamples::figures() const {
  const bool estimated = std::none_of(lse_error_estimates_.begin(), lse_error_estimates_.end(),
                                      [](double estimate) { return estimate < 0; });
  const bool known = std::none_of(error_estimates_.begin(), error_estimates_.end(), [](double e) { return e < 0; });
  const double head_steps = static_cast<double>(steps_) * meta_.num_kv_heads;
  Json figures = {{"layer", layer_.layer},
                  {"error", {{"mean", mean(errors_)}, {"p95", quantile(errors_, 0.95)}, {"max", quantile(errors_, 1)}}},
                  {"lse_error", {{"mean", mean(lse_errors_)}, {"max", quantile(lse_errors_, 1)}}},
                  {"error_estimate", known ? Json(mean(error_estimates_)) : Json(nullptr)},
                  {"certified_share", ratio(static_cast<double>(certified_), static_cast<double>(errors_.size()))},
                  {"coverage", estimated_ > 0 ? Json(static_cast<double>(covered_) / static_cast<double>(estimated_))
                                              : Json(nullptr)},
                  {"lse_error_estimate", estimated ? Json(mean(lse_error_estimates_)) : Json(nullptr)},
                  {"dense_steps", dense_steps_},
                  {"rows_share", ratio(static_cast<double>(rows_gathered_), static_cast<double>(rows_host_))},
                  {"keys_share", ratio(static_cast<double>(keys_attended_), static_cast<double>(keys_visible_))},
                  {"bytes_per_step", ratio(static_cast<double>(bytes_), static_cast<double>(steps_))},
                  {"window_rows", ratio(static_cast<double>(rows_window_), head_steps)},
                  {"host_rows", ratio(static_cast<double>(rows_host_), head_steps)},
                  {"index_bytes_per_token", ratio(static_cast<double>(index_bytes_), indexed_rows_)},
                  {"build_ns_per_token", ratio(1000 * index_build_us_, indexed_rows_)},
                  {"us",
                   {{"append", quantile(us_[kAppend], 0.5)},
                    {"window", quantile(us_[kWindow], 0.5)},
                    {"select", quantile(us_[kSelect], 0.5)},
                    {"attend", quantile(us_[kAttend], 0.5)},
                    {"merge", quantile(us_[kMerge], 0.5)},
                    {"total", quantile(us_[kTotal], 0.5)}}}};
  if (layer_.dec_out.data != nullptr) figures["recorded_out_max_diff"] = recorded_diff_;
  return figures;
}

std::string dense_note(const std::vector<LayerSamples>& layers, const td_selector& selector, bool always_select) {
  std::int64_t dense = 0;
  std::int64_t steps = 0;
  bool selected = false;
  for (const LayerSamples& layer : layers) {
    dense += layer.dense_steps();
    steps += layer.steps();
    selected = selected || layer.selected();
  }
  return dense_text(dense, steps, selector, selected || always_select);
}

Json mean_over_layers(const std::vector<Json>& layers) {
  Json result = Json::object();
  for (const auto& [name, first] : layers.front().items()) {
    if (name == "layer") continue;
    std::vector<Json> values;
    values.reserve(layers.size());
    for (const Json& layer : layers) values.push_back(layer.value(name, Json(nullptr)));
    if (first.is_object()) {
      result[name] = mean_over_layers(values);
    } else if (std::all_of(values.begin(), values.end(), [](const Json& value) { return value.is_number(); })) {
      double sum = 0;
      for (const Json& value : values) sum += value.get<double>();
      result[name] = sum / static_cast<double>(values.size());
    } else {
      result[name] = nullptr;
    }
  }
  return result;
}

namespace {

std::vector<std::string> table_row(const std::string& name, const Json& figures) {
  const auto number = [&figures](const char* pointer) {
    const Json& value = figures.at(Json::json_pointer(pointer));
    return value.is_number() ? short_number(value.get<double>()) : std::string("-");
  };
  const auto percent = [&figures](const char* field) {
    const Json& value = figures.at(field);
    return value.is_number() ? fmt::format("{:.2f}", 100 * value.get<double>()) : std::string("-");
  };
  return {name,
          number("/error/mean"),
          number("/error/p95"),
          number("/error/max"),
          number("/error_estimate"),
          percent("certified_share"),
          percent("coverage"),
          number("/lse_error/mean"),
          number("/lse_error/max"),
          percent("rows_share"),
          human_bytes(figures.at("bytes_per_step").get<double>()),
          number("/index_bytes_per_token"),
          number("/build_ns_per_token"),
          number("/us/select"),
          number("/us/attend"),
          number("/us/total")};
}

}  // namespace

std::string replay_table(const Json& layers, const Json& mean) {
  Table table({"layer", "error", "p95", "max", "estimate", "cert %", "cover %", "lse error", "lse max", "rows %",
               "read/step", "index B", "build ns", "select us", "attend", "total us"});
  for (const Json& layer : layers) table.add_row(table_row(std::to_string(layer.at("layer").get<int>()), layer));
  table.add_row(table_row("mean", mean));
  return table.text();
}

}  // namespace tandem::cli
