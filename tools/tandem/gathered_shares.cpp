#include "tools/tandem/gathered_shares.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace tandem::cli {
namespace {

constexpr double kLeast = 1e-9;  // shares have logarithms

}  // namespace

void GatheredShares::add(std::int64_t tokens, double budget, double share) {
  seen_.push_back({tokens, budget, std::clamp(share, kLeast, 1.0)});
}

std::optional<GatheredShares::Range> GatheredShares::at(std::int64_t tokens) const {
  std::map<std::int64_t, std::pair<double, int>> logs;  // by context: sum and count
  Range range{0, 1, 0};
  for (const Seen& seen : seen_) {
    auto& [sum, count] = logs[seen.tokens];
    sum += std::log(seen.share);
    ++count;
    range.low = std::min(range.low, seen.share);
    range.high = std::max(range.high, seen.share);
  }
  const auto above = logs.lower_bound(tokens);
  if (above == logs.end() || (above == logs.begin() && above->first != tokens)) return {};
  const auto mean = [](const auto& entry) { return entry.second.first / entry.second.second; };
  double log = mean(*above);
  if (above->first != tokens) {
    const auto below = std::prev(above);
    const auto x = [](std::int64_t t) { return std::log(static_cast<double>(t)); };
    log = std::lerp(mean(*below), log, (x(tokens) - x(below->first)) / (x(above->first) - x(below->first)));
  }
  range.value = std::exp(log);
  return range;
}

double GatheredShares::united(double budget) const {
  double heads = 0;
  int count = 0;
  for (const Seen& seen : seen_) {
    if (seen.budget <= 0 || seen.budget >= 1 || seen.share >= 1) continue;
    heads += std::log1p(-seen.share) / std::log1p(-seen.budget);
    ++count;
  }
  return count == 0 ? budget : 1 - std::pow(1 - budget, heads / count);
}

}  // namespace tandem::cli
