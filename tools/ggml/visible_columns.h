#pragma once

#include <cstdint>
#include <vector>

#include "tandem/tandem.h"
#include "tools/ggml/attention_op.h"
#include "tools/ggml/write_order.h"

namespace tandem::ggml {

/// What the op's mask says of the rows of a pool, for td_attend_rows: the mask itself, or lists of rows. Points into
/// the op's tensors and into itself, and keeps its memory from op to op.
class VisibleColumns {
 public:
  /// All queries of all streams of an op that reads a cache; rows oldest first by `order`, unless the mask adds
  /// something but 0, which no list of rows can say (such queries are attended exactly, in any order). NULL: in the
  /// cache's order.
  const td_visibility& of_cache(const AttentionOp& op, WriteOrder* order);
  /// The queries of one stream, for a pool whose rows are the stream's columns.
  const td_visibility& of_stream(const AttentionOp& op, std::int64_t stream);

 private:
  void set(const AttentionOp& op, std::int64_t first_stream, std::int64_t num_streams);
  bool list_rows(WriteOrder& order);

  td_visibility visible_{};
  std::vector<std::int64_t> first_row_;
  std::vector<std::int64_t> rows_, row_begin_;
  std::vector<std::uint16_t> mask_;  ///< where the op has none, or not one line after the other
};

}  // namespace tandem::ggml
