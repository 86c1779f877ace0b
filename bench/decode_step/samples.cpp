#include "bench/decode_step/samples.h"

#include <cmath>

#include "tools/tandem/statistics.h"

namespace tandem::bench {
using cli::mean;
using cli::quantile;
using cli::ratio;
using cli::relative_error;

Json spread_of(std::vector<double> values) {
  return {{"min", quantile(values, 0)},   {"p10", quantile(values, 0.1)}, {"median", quantile(values, 0.5)},
          {"p90", quantile(values, 0.9)}, {"max", quantile(values, 1)},   {"mean", mean(values)}};
}

void Samples::add(std::int64_t step, const StepResult& result, bool timed) {
  if (step < exact_steps_) add_errors(step, result);
  if (!timed) return;
  us_.push_back(result.us);
  for (const auto& [stage, us] : result.stage_us.items()) stage_us_[stage].push_back(us.get<double>());
  bytes_ += static_cast<double>(result.bytes);
  scattered_bytes_ += static_cast<double>(result.scattered_bytes);
  rows_host_ += static_cast<double>(result.rows_host);
  rows_gathered_ += static_cast<double>(result.rows_gathered);
  keys_visible_ += static_cast<double>(result.keys_visible);
  keys_attended_ += static_cast<double>(result.keys_attended);
}

void Samples::add_errors(std::int64_t step, const StepResult& result) {
  const std::int64_t dim = meta_.head_dim_v;
  const auto vectors = static_cast<std::int64_t>(result.out.size()) / dim;
  for (std::int64_t i = 0; i < vectors; ++i) {
    const std::int64_t row = step * meta_.num_q_heads + i % meta_.num_q_heads;
    errors_.push_back(relative_error(result.out.data() + i * dim, exact_.out.data() + row * dim, dim));
    if (!result.lse.empty())
      lse_errors_.push_back(
          std::abs(result.lse[static_cast<std::size_t>(i)] - exact_.lse[static_cast<std::size_t>(row)]));
  }
  if (result.lse_error_estimate >= 0) estimates_.push_back(result.lse_error_estimate);
}

Json Samples::figures(double sequential_gb_per_s, double scattered_gb_per_s) const {
  const auto steps = static_cast<double>(us_.size());
  const double bytes = ratio(bytes_, steps);
  const double scattered = ratio(scattered_bytes_, steps);
  const double floor_us = ratio(bytes, sequential_gb_per_s * 1000);
  const double reachable_us =
      ratio(bytes - scattered, sequential_gb_per_s * 1000) + ratio(scattered, scattered_gb_per_s * 1000);
  Json stages = Json::object();
  for (const auto& [stage, us] : stage_us_) stages[stage] = quantile(us, 0.5);
  Json lse_error = nullptr;
  if (!lse_errors_.empty()) lse_error = {{"mean", mean(lse_errors_)}, {"p95", quantile(lse_errors_, 0.95)}};
  return {{"samples", us_.size()},
          {"us", spread_of(us_)},
          {"slowest_step", std::distance(us_.begin(), std::max_element(us_.begin(), us_.end()))},
          {"worker_us", stages},
          {"bytes_per_step", bytes},
          {"floor_us", floor_us},
          {"gap", ratio(quantile(us_, 0.5), floor_us)},
          {"gap_of_min", ratio(quantile(us_, 0), floor_us)},
          {"scattered_bytes_per_step", scattered},
          {"reachable_us", reachable_us},
          {"gap_of_reachable", ratio(quantile(us_, 0.5), reachable_us)},
          {"rows_gathered", ratio(rows_gathered_, steps)},
          {"rows_share", ratio(rows_gathered_, rows_host_)},
          {"keys_share", ratio(keys_attended_, keys_visible_)},
          {"error", {{"mean", mean(errors_)}, {"p50", quantile(errors_, 0.5)}, {"p95", quantile(errors_, 0.95)}}},
          {"lse_error", lse_error},
          {"lse_error_estimate", estimates_.empty() ? Json(nullptr) : Json(mean(estimates_))}};
}

}  // namespace tandem::bench
