#include "runtime/request_check.h"

#include <algorithm>
#include <cstdlib>

#include "runtime/base/error.h"

namespace tandem {
namespace {

constexpr std::int64_t kAddressSpace = std::int64_t{1} << 57;  // bytes; no stride may step out of it

void check_size(const char* tensor, const char* field, std::int64_t value, std::int64_t expected) {
  TANDEM_CHECK(value == expected, invalid_argument, tensor, " has ", value, " ", field, "; expected ", expected);
}

/// Checks one stride and returns its magnitude, 0 when there is only one row along it.
std::int64_t check_stride(const char* tensor, const char* field, std::int64_t stride, std::int64_t count,
                          std::int64_t row_bytes) {
  if (count <= 1) return 0;
  TANDEM_CHECK(stride >= row_bytes || stride <= -row_bytes, invalid_argument, tensor, ".", field, " is ", stride,
               " bytes; rows of ", row_bytes, " bytes would overlap");
  const std::int64_t most = kAddressSpace / count;
  TANDEM_CHECK(stride <= most && stride >= -most, invalid_argument, tensor, ".", field, " is ", stride,
               " bytes; allowed for ", count, " rows: up to ", most);
  return std::llabs(stride);
}

/// The rows of the dimension with the larger stride must lie beyond all rows of the other.
void check_disjoint(const TensorView& tensor, const char* name, std::int64_t token_stride, std::int64_t head_stride) {
  const bool tokens_inside = token_stride < head_stride;
  const std::int64_t inner = tokens_inside ? token_stride * tensor.tokens : head_stride * tensor.heads;
  TANDEM_CHECK(token_stride == 0 || head_stride == 0 || std::max(token_stride, head_stride) >= inner, invalid_argument,
               name, ".stride is (", tensor.token_stride, ", ", tensor.head_stride, ") bytes; rows of ", tensor.tokens,
               " tokens and ", tensor.heads, " heads would overlap");
}

}  // namespace

void check_tensor(const TensorView& tensor, const TensorSpec& spec) {
  const auto dtype = static_cast<std::int32_t>(tensor.dtype);
  TANDEM_CHECK(dtype >= 0 && dtype < kNumDTypes, invalid_argument, spec.name, ".dtype is ", dtype,
               "; allowed: 0 (f32), 1 (f16), 2 (bf16)");
  check_size(spec.name, "tokens", tensor.tokens, spec.tokens);
  check_size(spec.name, "heads", tensor.heads, spec.heads);
  check_size(spec.name, "elements per row (head_dim)", tensor.dim, spec.dim);
  TANDEM_CHECK(tensor.data != nullptr || spec.tokens == 0, invalid_argument, spec.name, ".data is NULL");
  const std::int64_t row_bytes = tensor.dim * static_cast<std::int64_t>(bytes_of(tensor.dtype));
  const auto token_stride =
      check_stride(spec.name, "stride[0] (tokens)", tensor.token_stride, tensor.tokens, row_bytes);
  const auto head_stride = check_stride(spec.name, "stride[1] (heads)", tensor.head_stride, tensor.heads, row_bytes);
  check_disjoint(tensor, spec.name, token_stride, head_stride);
}

void check_finite_tensor(const TensorView& tensor, const TensorSpec& spec, float bound) {
  check_tensor(tensor, spec);
  for (std::int64_t t = 0; t < tensor.tokens; ++t) {
    for (std::int64_t h = 0; h < tensor.heads; ++h) {
      const std::byte* row = tensor.row(t, h);
      if (all_below(tensor.dtype, row, tensor.dim, bound)) continue;
      TANDEM_CHECK(all_finite(tensor.dtype, row, tensor.dim), invalid_argument, spec.name,
                   " holds NaN or infinity in token ", t, ", head ", h, "; every element must be finite");
      fail(ErrorCode::invalid_argument, spec.name, " holds a value too large to store in token ", t, ", head ", h,
           "; with this window_dtype and host_dtype, magnitudes must stay below ", bound);
    }
  }
}

std::int64_t check_counts(const char* name, std::span<const std::uint64_t> sequences,
                          std::span<const std::int64_t> counts) {
  TANDEM_CHECK(!sequences.empty(), invalid_argument, "num_seqs is 0; at least one sequence is needed");
  TANDEM_CHECK(sequences.size() == counts.size(), invalid_argument, name, " has ", counts.size(), " entries for ",
               sequences.size(), " sequences");
  std::int64_t total = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    TANDEM_CHECK(counts[i] >= 0 && counts[i] <= kMaxTokens, invalid_argument, name, "[", i, "] is ", counts[i],
                 "; allowed: 0 to ", kMaxTokens);
    total += counts[i];
  }
  return total;
}

}  // namespace tandem
