#pragma once

#include <cstdint>
#include <span>

#include "cpu/rope.h"

namespace tandem::gpu {

/// Where a model's decisions come from. There is no way to guess them: a model was trained for one of these, or not at
/// all.
enum class DmcSource {
  last_neuron,  ///< the last element of k and of q before RoPE, which takes no part in attention then
  external,     ///< logits of their own beside k and q, taken as they are
};

/// Dynamic Memory Compression: every token of a KV head is appended to the cache or merged into its last entry.
/// Source: Nawrot et al., arXiv:2403.09636.
struct DmcParams {
  DmcSource source = DmcSource::last_neuron;
  std::int32_t window = 12;    ///< latest tokens of an entry that its average is taken over: 1 to kMaxDmcWindow
  std::int32_t rollback = 16;  ///< latest tokens that DmcHead::truncate() can always take back: 0 to kMaxDmcRollback
  float alpha_bias = -5.f;     ///< added to the last neuron of k; a token merges where the sum is positive
  float omega_bias = 5.f;      ///< added to the mean last neuron of the group's queries
  float omega_epsilon = 0.f;   ///< added to the weight; the authors' release rounds to bf16 and adds 2^-7

  friend bool operator==(const DmcParams&, const DmcParams&) = default;
};
inline constexpr std::int32_t kMaxDmcWindow = 64;
inline constexpr std::int32_t kMaxDmcRollback = 4096;
inline constexpr float kMaxDmcWeight = 0x1p60f;
void validate(const DmcParams& params);  ///< throws Error(invalid_argument) naming the field and the value

/// What one KV head does with one token.
struct DmcDecision {
  bool merge = false;  ///< into the last entry, instead of becoming one
  float weight = 0.f;  ///< in the average: above 0, at most kMaxDmcWeight

  friend bool operator==(const DmcDecision&, const DmcDecision&) = default;
};

/// merge = alpha > 0 and weight = sigmoid(mean of omegas) + omega_epsilon, with the biases added before where the
/// source is last_neuron. `omegas` has a value for each query head of the group, or one for all. Throws
/// Error(invalid_argument) when there is none, or a value is not finite.
DmcDecision decide(const DmcParams& params, float alpha, std::span<const float> omegas);

/// Rotates a key or query; where the source is last_neuron, that neuron is 0 before and after, as in training.
void rotate_for_dmc(const DmcParams& params, const cpu::RopeParams& rope, std::int64_t position,
                    std::span<float> x) noexcept;

}  // namespace tandem::gpu
