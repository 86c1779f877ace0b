#include "runtime/request_check.h"

#include <cstdlib>

#include "runtime/base/error.h"

namespace tandem {
namespace {

void check_size(const char* tensor, const char* field, std::int64_t value, std::int64_t expected) {
  TANDEM_CHECK(value == expected, invalid_argument, tensor, " has ", value, " ", field, "; expected ", expected);
}

void check_stride(const char* tensor, const char* field, std::int64_t stride, std::int64_t count,
                  std::int64_t row_bytes) {
  TANDEM_CHECK(count <= 1 || std::llabs(stride) >= row_bytes, invalid_argument, tensor, ".", field, " is ", stride,
               " bytes; rows of ", row_bytes, " bytes would overlap");
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
  check_stride(spec.name, "stride[0] (tokens)", tensor.token_stride, tensor.tokens, row_bytes);
  check_stride(spec.name, "stride[1] (heads)", tensor.head_stride, tensor.heads, row_bytes);
}

void check_finite_tensor(const TensorView& tensor, const TensorSpec& spec) {
  check_tensor(tensor, spec);
  for (std::int64_t t = 0; t < tensor.tokens; ++t) {
    for (std::int64_t h = 0; h < tensor.heads; ++h) {
      TANDEM_CHECK(all_finite(tensor.dtype, tensor.row(t, h), tensor.dim), invalid_argument, spec.name,
                   " holds NaN or infinity in token ", t, ", head ", h, "; every element must be finite");
    }
  }
}

std::int64_t check_counts(const char* name, std::span<const std::uint64_t> sequences,
                          std::span<const std::int64_t> counts) {
  TANDEM_CHECK(!sequences.empty(), invalid_argument, "n_seqs is 0; at least one sequence is needed");
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
