#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "runtime/base/dtype.h"

namespace tandem {

/// Non-owning view of (tokens, heads, dim) elements. Strides are in bytes and 64-bit, so interleaved, padded and
/// transposed layouts pass without a copy; the elements of one (token, head) row are contiguous. Where `on_device`,
/// they lie in the memory of a runtime's device, and nobody else reads or writes them.
template <typename Byte>
struct BasicTensorView {
  Byte* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t tokens = 0;
  std::int64_t heads = 0;
  std::int64_t dim = 0;
  std::int64_t token_stride = 0;  ///< bytes
  std::int64_t head_stride = 0;   ///< bytes
  bool on_device = false;

  [[nodiscard]] Byte* row(std::int64_t token, std::int64_t head) const noexcept {
    return data + token * token_stride + head * head_stride;
  }
  /// Tokens [first, first + count) of this view.
  [[nodiscard]] BasicTensorView slice(std::int64_t first, std::int64_t count) const noexcept {
    BasicTensorView part = *this;
    part.data = data + first * token_stride;
    part.tokens = count;
    return part;
  }
};

using TensorView = BasicTensorView<const std::byte>;
using MutableTensorView = BasicTensorView<std::byte>;

/// K (tokens, num_kv_heads, head_dim_k) and V (tokens, num_kv_heads, head_dim_v) of the same tokens.
struct KvView {
  TensorView k;
  TensorView v;
};

/// Dense row-major (tokens, heads, dim) view over `data`. The bytes of a token (heads x dim) must fit into 64 bits:
/// extents that come from outside are bounded first.
template <typename Element>
auto dense_view(Element* data, DType dtype, std::int64_t tokens, std::int64_t heads, std::int64_t dim) noexcept {
  using Byte = std::conditional_t<std::is_const_v<Element>, const std::byte, std::byte>;
  const std::int64_t row_bytes = bytes_of(dtype, dim);
  return BasicTensorView<Byte>{reinterpret_cast<Byte*>(data), dtype, tokens, heads, dim, heads * row_bytes, row_bytes};
}

}  // namespace tandem
