#include "tools/tandem/split_predictor.h"

#include <algorithm>

#include "runtime/base/error.h"
#include "tools/tandem/selector_text.h"

namespace tandem::cli {
namespace {

/// The selector without its budget, and its budget.
std::pair<std::string, double> without_budget(const std::string& selector) {
  Json object = parse_selector("--selectors", selector);
  const double budget = object.value("budget", 0.0);
  object.erase("budget");
  return {object.dump(), budget};
}

/// Those of `selectors` that have the smallest or the largest budget of their kind.
std::vector<std::string> extremes_of(const std::vector<std::string>& selectors) {
  std::map<std::string, std::pair<std::pair<double, std::string>, std::pair<double, std::string>>> kinds;
  for (const std::string& selector : selectors) {
    const auto [kind, budget] = without_budget(selector);
    const std::pair<double, std::string> entry{budget, selector};
    const auto [known, added] = kinds.try_emplace(kind, entry, entry);
    if (added) continue;
    known->second.first = std::min(known->second.first, entry);
    known->second.second = std::max(known->second.second, entry);
  }
  std::vector<std::string> extremes;
  for (const auto& [kind, ends] : kinds) {
    extremes.push_back(ends.first.second);
    if (ends.second.second != ends.first.second) extremes.push_back(ends.second.second);
  }
  return extremes;
}

}  // namespace

std::vector<Split> fit_splits(const std::vector<Split>& splits) {
  std::vector<std::string> selectors;
  for (const Split& split : splits)
    if (std::find(selectors.begin(), selectors.end(), split.selector) == selectors.end())
      selectors.push_back(split.selector);
  const std::vector<std::string> extremes = extremes_of(selectors);
  std::vector<Split> chosen;
  for (const Split& split : splits) {
    const Split& first = splits.front();
    const int others = (split.host_dtype != first.host_dtype ? 1 : 0) + (split.local != first.local ? 1 : 0) +
                       (split.codec != first.codec ? 1 : 0);
    if (others > 1 || std::find(extremes.begin(), extremes.end(), split.selector) == extremes.end()) continue;
    chosen.push_back(split);
  }
  return chosen;
}

SplitPredictor::SplitPredictor(const std::vector<Split>& splits, const SplitShape& shape,
                               const std::vector<SplitSample>& measured)
    : shape_(shape) {
  for (const SplitSample& sample : measured) {
    const std::string kind = without_budget(sample.at.split.selector).first;
    shares_[kind].add(sample.at.tokens, selector_of(sample.at.split).budget, sample.gathered_share);
  }
  std::map<int, std::vector<plan::TimedWork>> samples;
  for (const SplitSample& sample : measured) {
    SplitRows rows = rows_of(sample.at, sample.gathered_share);
    rows.host = sample.host_rows;
    samples[sample.at.split.threads].push_back({work_of(sample.at, shape, rows), sample.us});
  }
  for (auto& [threads, timed] : samples)
    costs_.emplace(threads, plan::LinearCosts(expected_costs(splits, shape, threads), std::move(timed)));
}

const plan::LinearCosts& SplitPredictor::costs_of(int threads) const {
  const auto costs = costs_.find(threads);
  TANDEM_CHECK(costs != costs_.end(), invalid_argument, "threads is ", threads, ", which was not measured");
  return costs->second;
}

std::optional<plan::TimeRange> SplitPredictor::predict(const SplitCase& at) const {
  const plan::LinearCosts& costs = costs_of(at.split.threads);
  const auto range_with = [&](double share) { return costs.range_of(work_of(at, shape_, rows_of(at, share))); };
  constexpr double kAsBudget = -1;
  const td_selector selector = selector_of(at.split);
  const auto known = shares_.find(without_budget(at.split.selector).first);
  if (gathers_by_data(selector)) {
    const auto share = known == shares_.end() ? std::nullopt : known->second.at(at.tokens);
    if (!share) return {};
    return plan::TimeRange{range_with(share->value).value, range_with(share->low).low, range_with(share->high).high};
  }
  const bool by_head = selector.kind == TD_SELECT_TOP_K && known != shares_.end();
  return range_with(by_head ? known->second.united(selector.budget) : kAsBudget);
}

lsh::CostProfile SplitPredictor::profile(int threads) const {
  constexpr double kLeast = 0.1;  // of the built-in figure: less is noise
  const plan::LinearCosts& costs = costs_of(threads);
  const double dims = shape_.head_dim / 128.0;
  const double group = static_cast<double>(shape_.num_q_heads) / shape_.num_kv_heads;
  lsh::CostProfile profile;
  const double vectors = (group - 4) * profile.query_vector_ns * dims;  // as lsh::SelectionCost scales rows
  const auto take = [&](const char* kind, double beside, double scale, double& figure) {
    if (const auto us = costs.cost(kind))
      figure = std::max(kLeast * figure, (*us * 1000 * threads - beside) / scale);  // of one worker
  };
  take("dense_row.bf16", vectors, dims, profile.dense_row_ns);
  take("gathered_row.bf16", vectors, dims, profile.gathered_row_ns);
  take("scanned_row.1bit", 0, dims * group / 4, profile.scanned_row_1bit_ns);
  take("scanned_row.2bit", 0, dims * group / 4, profile.scanned_row_2bit_ns);
  take("selection", 0, 1, profile.selection_ns);
  return profile;
}

}  // namespace tandem::cli
