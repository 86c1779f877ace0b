#include "gpu/window_policy/dmc_decision.h"

#include <algorithm>
#include <cmath>

#include "runtime/base/error.h"

namespace tandem::gpu {
namespace {

// Below any weight that a trained model gives, and far above where a sum of weights or a share of one could vanish.
constexpr float kSmallestWeight = 0x1p-60f;
constexpr float kMaxBias = 1e3f;

void check_bias(const char* field, float bias) {
  TANDEM_CHECK(std::abs(bias) <= kMaxBias, invalid_argument, field, " is ", bias, "; allowed: -", kMaxBias, " to ",
               kMaxBias);
}

}  // namespace

void validate(const DmcParams& params) {
  TANDEM_CHECK(params.window >= 1 && params.window <= kMaxDmcWindow, invalid_argument, "merge_window is ",
               params.window, "; allowed: 1 to ", kMaxDmcWindow);
  TANDEM_CHECK(params.rollback >= 0 && params.rollback <= kMaxDmcRollback, invalid_argument, "rollback is ",
               params.rollback, "; allowed: 0 to ", kMaxDmcRollback);
  check_bias("alpha_bias", params.alpha_bias);
  check_bias("omega_bias", params.omega_bias);
  TANDEM_CHECK(params.omega_epsilon >= 0 && params.omega_epsilon <= 1, invalid_argument, "omega_epsilon is ",
               params.omega_epsilon, "; allowed: 0 to 1");
}

DmcDecision decide(const DmcParams& params, float alpha, std::span<const float> omegas) {
  TANDEM_CHECK(std::isfinite(alpha), invalid_argument, "alpha is ", alpha, "; allowed: finite values");
  TANDEM_CHECK(!omegas.empty(), invalid_argument, "omega is missing; needed: one value, or one for each query head");
  double omega = 0;
  for (std::size_t i = 0; i < omegas.size(); ++i) {
    TANDEM_CHECK(std::isfinite(omegas[i]), invalid_argument, "omega[", i, "] is ", omegas[i],
                 "; allowed: finite values");
    omega += omegas[i];
  }
  omega /= static_cast<double>(omegas.size());
  if (params.source == DmcSource::last_neuron) {
    alpha += params.alpha_bias;
    omega += params.omega_bias;
  }
  const auto weight = static_cast<float>(1.0 / (1.0 + std::exp(-omega))) + params.omega_epsilon;
  return {alpha > 0, std::max(weight, kSmallestWeight)};
}

void rotate_for_dmc(const DmcParams& params, const cpu::RopeParams& rope, std::int64_t position,
                    std::span<float> x) noexcept {
  const bool clears = params.source == DmcSource::last_neuron && !x.empty();
  if (clears) x.back() = 0.f;
  cpu::rotate(rope, static_cast<std::int32_t>(x.size()), position, x.data());
  if (clears) x.back() = 0.f;  // its pair has turned into it
}

}  // namespace tandem::gpu
