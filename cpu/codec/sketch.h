#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/aligned_vector.h"
#include "cpu/row_layout.h"

namespace tandem::cpu {

/// Tokens per block of codes: one byte column of every line, and one factor each.
inline constexpr int kSketchBlockRows = 64;
/// Coordinates that share a number of bits come in multiples of this: one lookup of the scan covers four bits.
inline constexpr int kNibbleDims = 4;

/// `dims` consecutive coordinates of a transformed key, each stored in `bits` bits.
struct BitGroup {
  int dims = 0;
  int bits = 0;

  friend bool operator==(const BitGroup&, const BitGroup&) = default;
};

/// How the bits of a code are spread over the coordinates of a transformed key, most important coordinates first.
using BitAllocation = std::vector<BitGroup>;

/// Code bytes of `bits_per_dim` (1 or 2) bits for each dimension of a key, rounded up to whole words.
constexpr int sketch_code_bytes(int head_dim, int bits_per_dim) noexcept {
  return (head_dim + 31) / 32 * 4 * bits_per_dim;
}

/// The allocations to choose from, all of sketch_code_bytes(). Source: measured; see runtime/DESIGN.md.
std::vector<BitAllocation> sketch_menu(int head_dim, int bits_per_dim);

/// Codes of one head: z = a transformed key is stored as c_i in 2^bits_i levels with z_i ~ f * step_i * (c_i + 1/2),
/// and the factor f = |z|^2 / <z, step (c + 1/2)>, which makes the estimate of <z, y> unbiased in direction.
///
/// Block of kSketchBlockRows tokens: code_bytes lines of 64 bytes, then 64 factors in fp16, divided by factor_scale.
/// Byte j of a token's code is in line j, at column_of(token). The code is a string of bits: for each group, from the
/// highest bit plane to the lowest, one bit per coordinate; bit i of the string is bit i % 8 of byte i / 8.
/// A factor with the sign bit set marks a row that must not be used.
/// Source: RaBitQ (Gao & Long, arXiv:2405.12497) for the factor; 4-bit lookups of faiss' fast-scan for the lines.
struct SketchFormat {
  SketchFormat() = default;
  /// `group_rms` has the rms of a coordinate of each group over the rms of all; factor_scale > 0 is about the median f.
  SketchFormat(const BitAllocation& allocation, const std::vector<float>& group_rms, float factor_scale);

  [[nodiscard]] std::int64_t block_bytes() const noexcept { return (code_bytes + 2) * std::int64_t{64}; }
  /// Column of token t of a block: bytes of even columns widen to tokens 0 to 31 in order, odd ones to 32 to 63.
  [[nodiscard]] static constexpr int column_of(int t) noexcept { return t < 32 ? 2 * t : 2 * (t - 32) + 1; }
  /// The weights of a code's bits: estimate = f * sum_i (bit_i ? w_i : -w_i), for the transformed query y (num_dims).
  /// Writes 8 * code_bytes values.
  void bit_weights(const float* query, float* weights) const noexcept;

  BitAllocation groups;
  int num_dims = 0;                           ///< coordinates that have bits
  int padded_dims = 0;                        ///< to kDimPadding; steps and levels are 0 beyond num_dims
  int code_bytes = 0;                         ///< per token; a multiple of 4
  float factor_scale = 1.f;                   ///< unit of the stored factors
  AlignedVector<float> steps, inverse_steps;  ///< (padded_dims): width of a level in units of |z|, and 1 / it
  AlignedVector<float> levels;                ///< (padded_dims): 2^(bits - 1)
};

}  // namespace tandem::cpu
