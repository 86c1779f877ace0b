#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/plan/prediction.h"
#include "tools/tandem/plan_commands.h"

namespace tandem::cli {

/// What `plan` and `plan compare` predict, as text of the command line.
struct PlanOptions {
  PlanCommon common;
  std::string html;
  std::string model, contexts = "32K", batches = "auto", methods = "all";
  std::string cpu = plan::kDefaultCpu, hand_off = "flag", weights = "bf16", host_dtype = "bf16";
  std::int64_t window = 1028;
  int dense_layers = 0, sketch_bits = 2;
  double budget = 0.02;
  bool ping_pong = false;
  double usd_per_hour = -1;
};

/// --model, as everything takes it that knows models by name: Catalog::model() reads it.
void add_model(CLI::App& app, std::string& model);
void add_plan_options(CLI::App& app, PlanOptions& options);

/// The same, read. A batch of 0 is the largest that fits.
struct PlanRequest {
  plan::Catalog catalog;
  plan::ModelShape model;
  plan::StepSettings settings;  ///< without context, batch and method
  std::vector<std::int64_t> contexts;
  std::vector<int> batches;
  std::vector<plan::Method> methods;
  bool any_method = true;  ///< no method was named
  std::optional<double> usd_per_hour;

  [[nodiscard]] plan::StepSettings at(std::int64_t context, int batch) const;
};

/// Throws UsageError, and what reading files throws.
PlanRequest request_of(const PlanOptions& options);

/// "12.3 (9.8 to 15)"
std::string range_text(const plan::Estimate& estimate);
Json estimate_json(const plan::Estimate& estimate);
/// "96K", or the number where it is no multiple of 1024.
std::string context_text(std::int64_t tokens);
/// Everything about a prediction but its machine and model; events where `with_events`.
Json prediction_json(const plan::Prediction& prediction, bool with_events);

}  // namespace tandem::cli
