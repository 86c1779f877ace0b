#pragma once

#include <cstdint>

#include "cpu/row_layout.h"
#include "runtime/base/shape.h"
#include "runtime/base/view.h"

namespace tandem {

/// K and V of the rows of one layer, in an engine's memory. Views of a format of blocks have `dim` elements all the
/// same.
struct RowTensors {
  TensorView k;           ///< (rows, num_kv_heads, head_dim_k)
  TensorView v;           ///< (rows, num_kv_heads, head_dim_v)
  cpu::RowLayout layout;  ///< of the rows of every head

  /// Throws Error(invalid_argument, unsupported) naming the field, the value and what is allowed.
  static RowTensors of(const TensorView& k, const TensorView& v, const AttentionShape& shape);

  [[nodiscard]] std::int64_t num_rows() const noexcept { return k.tokens; }
  /// The key of row 0; that of row r lies r * layout.row_bytes further on.
  [[nodiscard]] const std::byte* base(std::int64_t head) const noexcept { return k.row(0, head); }
};

}  // namespace tandem
