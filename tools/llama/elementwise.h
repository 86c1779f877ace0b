#pragma once

#include <cstdint>
#include <vector>

namespace tandem::llama {

/// target = source / sqrt(mean(source^2) + eps) * weight, for each of `rows` rows of `dim`. May be done in place.
void rms_norm(const float* source, const float* weight, float eps, float* target, std::int64_t rows, std::int64_t dim);

/// gate = silu(gate) * up, with silu(x) = x / (1 + e^-x); relative error below 1e-6 for gates above -60, silu(-60)
/// below.
void swiglu(float* gate, const float* up, std::int64_t count);

void add(float* target, const float* source, std::int64_t count);

/// Rounds to the nearest fp16 value and back.
void round_to_f16(float* values, std::int64_t count);

/// Cosines and sines (tokens, head_dim / 2) of the positions first .. first + tokens - 1.
struct RopeAngles {
  std::vector<float> cosine, sine;
};

/// Angle of pair i at position p: p * theta^(-2 i / head_dim), rounded to fp32 as the models are trained.
/// Source: Su et al., arXiv:2104.09864.
void compute_angles(std::int64_t first, std::int64_t tokens, std::int64_t head_dim, float theta, RopeAngles& angles);

/// Rotates x (tokens, heads, head_dim) in place. Element i is paired with i + head_dim / 2, Hugging Face's rotate_half.
void apply_rope(const RopeAngles& angles, float* x, std::int64_t tokens, std::int64_t heads, std::int64_t head_dim);

}  // namespace tandem::llama
