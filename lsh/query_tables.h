#pragma once

#include <array>
#include <cstdint>

#include "cpu/aligned_vector.h"
#include "cpu/kernels.h"
#include "lsh/sketch_map.h"
#include "runtime/base/shape.h"

namespace tandem::lsh {

/// Up to kMaxGroupSize queries of one KV head as the kernels of a sketch take them: in the coordinates of a map, with a
/// lookup table for every few bits of a code. Its memory grows to the largest shape seen and then stays.
class QueryTables {
 public:
  /// vectors (count, padded_k), scaled as logits need. Estimates come in units of 1 / `unit`.
  void prepare(const cpu::SketchKernels& kernels, const SketchMap& map, const float* vectors, int count, int padded_k,
               float unit);

  /// Valid until the next prepare(), and while the tables stay where they are.
  [[nodiscard]] const cpu::SketchQuery& view() const noexcept { return view_; }
  /// |q'|^2 of a query, in the coordinates that have bits.
  [[nodiscard]] float square(int v) const noexcept { return squares_[static_cast<std::size_t>(v)]; }

 private:
  cpu::AlignedVector<float> transformed_;  // (count, map.format.padded_dims)
  cpu::AlignedVector<float> bit_weights_;  // of one query
  cpu::AlignedVector<std::uint8_t> luts_;
  std::array<float, kMaxGroupSize> slopes_{}, intercepts_{}, squares_{};
  cpu::SketchQuery view_;
};

}  // namespace tandem::lsh
