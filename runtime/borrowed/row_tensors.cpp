#include "runtime/borrowed/row_tensors.h"

#include "runtime/base/error.h"

namespace tandem {
namespace {

constexpr std::int64_t kAddressSpace = std::int64_t{1} << 57;  // bytes; no row may lie beyond it

void check_stride(const char* name, const char* field, std::int64_t stride, std::int64_t count, std::int64_t least) {
  if (count <= 1) return;
  TANDEM_CHECK(stride >= least && stride <= kAddressSpace / count, invalid_argument, name, ".", field, " is ", stride,
               " bytes; allowed: ", least, " to ", kAddressSpace / count);
}

void check(const char* name, const TensorView& tensor, std::int32_t heads, std::int32_t dim) {
  const auto dtype = static_cast<int>(tensor.dtype);
  TANDEM_CHECK(dtype >= 0 && dtype < kNumRowFormats && (dtype < kNumDTypes || is_blocked(tensor.dtype)),
               invalid_argument, name, ".dtype is ", dtype,
               "; allowed: 0 (f32), 1 (f16), 2 (bf16), 5 (q8_0), 6 (q4_0)");
  TANDEM_CHECK(!tensor.on_device, unsupported, name, ".memory is 1 (TD_MEMORY_DEVICE); rows must be in host memory");
  TANDEM_CHECK(tensor.data != nullptr, invalid_argument, name, ".data is NULL");
  TANDEM_CHECK(tensor.tokens >= 1, invalid_argument, name, " has ", tensor.tokens, " rows; at least one is needed");
  TANDEM_CHECK(tensor.heads == heads, invalid_argument, name, " has ", tensor.heads, " heads; expected ", heads);
  TANDEM_CHECK(tensor.dim == dim, invalid_argument, name, " has ", tensor.dim,
               " elements per row (head_dim); expected ", dim);
  const int step = is_blocked(tensor.dtype) ? kBlockElements : cpu::kDimPadding;
  TANDEM_CHECK(dim % step == 0, unsupported, name, " has ", dim, " elements per row (head_dim) of dtype ",
               to_string(tensor.dtype), "; allowed: multiples of ", step);
  const std::int64_t bytes = bytes_of(tensor.dtype, dim);
  check_stride(name, "stride[0] (rows)", tensor.token_stride, tensor.tokens, bytes);
  check_stride(name, "stride[1] (heads)", tensor.head_stride, tensor.heads, bytes);
}

}  // namespace

RowTensors RowTensors::of(const TensorView& k, const TensorView& v, const AttentionShape& shape) {
  check("k", k, shape.num_kv_heads, shape.head_dim_k);
  check("v", v, shape.num_kv_heads, shape.head_dim_v);
  TANDEM_CHECK(v.dtype == k.dtype, unsupported, "v.dtype is ", to_string(v.dtype), " and k.dtype ", to_string(k.dtype),
               "; they must be the same");
  TANDEM_CHECK(v.tokens == k.tokens, invalid_argument, "v has ", v.tokens, " rows; expected ", k.tokens, ", as k");
  TANDEM_CHECK(k.tokens == 1 || v.token_stride == k.token_stride, unsupported, "v.stride[0] is ", v.token_stride,
               " bytes; it must be that of k, ", k.token_stride);
  TANDEM_CHECK(k.heads == 1 || v.head_stride == k.head_stride, unsupported, "v.stride[1] is ", v.head_stride,
               " bytes; it must be that of k, ", k.head_stride);
  // Of integers: K and V are different objects.
  const auto apart =
      static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(v.data) - reinterpret_cast<std::uintptr_t>(k.data));
  return {k, v, cpu::RowLayout::borrowed(shape, k.dtype, k.token_stride, apart)};
}

}  // namespace tandem
