#include "cpu/reference_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tandem::cpu::reference {
namespace {

constexpr double kHidden = -std::numeric_limits<double>::infinity();

std::vector<double> logits_of(const Problem& p, std::size_t num_keys) {
  std::vector<double> logits(num_keys);
  for (std::size_t i = 0; i < num_keys; ++i) {
    double dot = 0;
    for (std::size_t d = 0; d < p.q.size(); ++d) dot += p.q[d] * p.k[i * p.q.size() + d];
    double logit = p.scale * dot;
    if (p.softcap > 0) logit = p.softcap * std::tanh(logit / p.softcap);
    logits[i] = logit + (p.biases.empty() ? 0.0 : p.biases[i]);
  }
  return logits;
}

}  // namespace

Result attention(const Problem& p, std::int64_t dim_v) {
  const std::size_t dv = static_cast<std::size_t>(dim_v);
  const std::size_t num_keys = p.v.size() / dv;
  const auto logits = logits_of(p, num_keys);
  Result result{std::vector<double>(dv, 0.0), kHidden};
  const double top = logits.empty() ? kHidden : *std::max_element(logits.begin(), logits.end());
  if (top == kHidden) return result;
  double sum = 0;
  for (std::size_t i = 0; i < num_keys; ++i) {
    const double a = std::exp(logits[i] - top);
    sum += a;
    for (std::size_t d = 0; d < dv; ++d) result.out[d] += a * p.v[i * dv + d];
  }
  for (double& x : result.out) x /= sum;
  result.lse = top + std::log(sum);
  return result;
}

}  // namespace tandem::cpu::reference
