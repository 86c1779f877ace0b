#include "lsh/query_tables.h"

#include <cassert>
#include <numeric>

namespace tandem::lsh {

void QueryTables::prepare(const cpu::SketchKernels& kernels, const SketchMap& map, const float* vectors, int count,
                          int padded_k, float unit) {
  assert(count <= kMaxGroupSize);
  const cpu::SketchFormat& format = map.format;
  const std::ptrdiff_t lut_bytes = kernels.lut_bytes(format.code_bytes);
  transformed_.resize(static_cast<std::size_t>(count) * static_cast<std::size_t>(format.padded_dims));
  bit_weights_.resize(static_cast<std::size_t>(format.code_bytes) * 8);
  luts_.resize(static_cast<std::size_t>(count * lut_bytes));
  kernels.project(vectors, count, padded_k, map.query_planes.data(), format.padded_dims, transformed_.data());
  for (int v = 0; v < count; ++v) {
    const auto i = static_cast<std::size_t>(v);
    const float* y = transformed_.data() + std::ptrdiff_t{v} * format.padded_dims;
    squares_[i] = std::inner_product(y, y + format.num_dims, y, 0.f);
    format.bit_weights(y, bit_weights_.data());
    kernels.luts(bit_weights_.data(), format.code_bytes, luts_.data() + v * lut_bytes, &slopes_[i], &intercepts_[i]);
    slopes_[i] *= unit;
    intercepts_[i] *= unit;
  }
  view_ = {count, format.code_bytes, luts_.data(), slopes_.data(), intercepts_.data()};
}

}  // namespace tandem::lsh
