#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "lsh/cost_profile.h"
#include "tools/plan/validation.h"

namespace tandem::plan {

/// A row of a result of bench/decode_step: one step of one layer, on the host alone.
struct MeasuredStep {
  std::string file;
  std::string name;      ///< of the selector, as the file has it
  std::string selector;  ///< "all", "sketch", "sketch_topk", "lsh" or "topk"
  double budget = 0.02;
  int sketch_bits = 0;       ///< 0: 1 for heads for which that is enough, else 2
  double two_bit_heads = 0;  ///< share of the heads that have 2, by the measured size of the index
  int lsh_bits = 10;
  int lsh_tables = 150;
  std::int64_t tokens = 0;
  std::int64_t window = 0;
  int threads = 1;
  int batch = 1;
  int num_q_heads = 1;
  int num_kv_heads = 1;
  int head_dim = 64;
  DType host_dtype = DType::bf16;
  double median_us = 0;

  /// One worker, one sequence, at most 32,768 tokens, every row or a sketch of a stated number of bits: what step costs
  /// are fitted on. All others check them.
  [[nodiscard]] bool is_for_fitting() const noexcept;
};

/// The rows of a result that step costs can predict: selectors of this project with a budget (what a wanted error takes
/// depends on the data). Throws Error(invalid_argument) naming field, value and what is allowed when it is no result of
/// decode_step.
std::vector<MeasuredStep> measured_steps_from(const Json& result, const std::string& origin);

/// All rows of `folder`/*decode_step*.json, in the order of the file names. Throws Error(io) when there are none.
std::vector<MeasuredStep> load_measured_steps(const std::filesystem::path& folder);

/// Step costs that predict the rows for fitting best (relative errors, least squares); what those say nothing about is
/// as built in. Throws Error(invalid_argument) where fewer rows than costs are for fitting.
lsh::CostProfile fit_step_costs(const std::vector<MeasuredStep>& steps);

/// Microseconds of a step. Several workers are as fast as 85 % of their number.
double predicted_us(const MeasuredStep& step, const lsh::CostProfile& costs);

/// Every row against what `costs` predict.
std::vector<Check> check_steps(const std::vector<MeasuredStep>& steps, const lsh::CostProfile& costs);

}  // namespace tandem::plan
