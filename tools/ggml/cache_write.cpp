#include "tools/ggml/cache_write.h"

#include <stdexcept>
#include <string>

#include "ggml.h"
#include "tools/ggml/cache_tensor.h"
#include "tools/ggml/cpu_conversions.h"
#include "tools/ggml/formats.h"

namespace tandem::ggml {
namespace {

std::int64_t row_number(const ggml_tensor& indices, std::int64_t i) {
  const char* place = static_cast<const char*>(indices.data) + i * static_cast<std::int64_t>(indices.nb[0]);
  return indices.type == GGML_TYPE_I64 ? *reinterpret_cast<const std::int64_t*>(place)
                                       : *reinterpret_cast<const std::int32_t*>(place);
}

bool is_matrix(const ggml_tensor& tensor) { return tensor.ne[2] == 1 && tensor.ne[3] == 1; }

}  // namespace

bool is_cache_write(const ggml_tensor& op) noexcept {
  const ggml_tensor& root = *root_of(&op);
  const ggml_tensor& values = *op.src[0];
  const ggml_tensor& indices = *op.src[1];
  return cache_kind(root) != CacheKind::none && is_cache_format(root.type) && ggml_is_contiguous(&root) &&
         // A view of the whole root: without flash attention V is written element by element, which is not ours.
         op.view_offs == 0 && op.ne[0] == root.ne[0] && op.ne[1] == cache_rows(root) && is_matrix(op) &&
         values.type == GGML_TYPE_F32 && values.nb[0] == sizeof(float) && is_matrix(values) && is_matrix(indices) &&
         indices.ne[1] == 1 && (indices.type == GGML_TYPE_I64 || indices.type == GGML_TYPE_I32) &&
         cpu_conversions(root.type).has_value();
}

void write_cache(const ggml_tensor& op, std::vector<std::int64_t>& rows) {
  const ggml_tensor& values = *op.src[0];
  const ggml_from_float_t to_row = cpu_conversions(op.type)->to_type;
  rows.clear();
  for (std::int64_t i = 0; i < values.ne[1]; ++i) {
    const std::int64_t row = row_number(*op.src[1], i);
    if (row < 0 || row >= op.ne[1])
      throw std::out_of_range(std::string(op.name) + " writes row " + std::to_string(row) + "; allowed: 0 to " +
                              std::to_string(op.ne[1] - 1));
    const char* from = static_cast<const char*>(values.data) + i * static_cast<std::int64_t>(values.nb[1]);
    char* to = static_cast<char*>(op.data) + row * static_cast<std::int64_t>(op.nb[1]);
    to_row(reinterpret_cast<const float*>(from), to, op.ne[0]);
    rows.push_back(row);
  }
}

}  // namespace tandem::ggml
