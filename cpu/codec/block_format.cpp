#include "cpu/codec/block_format.h"

#include "cpu/row_layout.h"

namespace tandem::cpu {

BlockFormat block_format(CodecKind kind, const AttentionShape& shape) noexcept {
  BlockFormat format;
  format.kind = kind;
  format.dim_k = shape.head_dim_k;
  format.dim_v = shape.head_dim_v;
  format.padded_k = padded(shape.head_dim_k);
  format.padded_v = padded(shape.head_dim_v);
  format.prepared_dim = format.padded_k;
  return format;
}

}  // namespace tandem::cpu
