#include "tools/ggml/visible_columns.h"

#include <algorithm>
#include <cstddef>
#include <span>

#include "ggml.h"
#include "tandem/tandem.hpp"

namespace tandem::ggml {
namespace {

constexpr std::uint16_t kHidden = 0xfc00;     // -inf in f16
constexpr std::uint16_t kMagnitude = 0x7fff;  // all bits but the sign

const std::uint16_t* mask_line(const AttentionOp& op, std::int64_t token, std::int64_t stream) {
  const ggml_tensor& mask = *op.mask;
  const std::int64_t line =
      token * static_cast<std::int64_t>(mask.nb[1]) + stream % mask.ne[3] * static_cast<std::int64_t>(mask.nb[3]);
  return reinterpret_cast<const std::uint16_t*>(static_cast<const char*>(mask.data) + line);
}

/// Whether the lines of all queries of these streams follow each other at nb[1].
bool is_regular(const AttentionOp& op, std::int64_t num_streams) {
  return num_streams == 1 ||
         (op.mask->ne[3] > 1 && op.mask->nb[3] == op.mask->nb[1] * static_cast<std::size_t>(op.tokens()));
}

}  // namespace

void VisibleColumns::set(const AttentionOp& op, std::int64_t first_stream, std::int64_t num_streams) {
  visible_ = td::make<td_visibility>();
  visible_.kind = TD_VISIBLE_MASK;
  visible_.num_queries = static_cast<std::int32_t>(num_streams * op.tokens());
  visible_.num_columns = op.columns();
  if (op.mask != nullptr && is_regular(op, num_streams)) {
    visible_.mask = mask_line(op, 0, first_stream);
    visible_.mask_stride = static_cast<std::int64_t>(op.mask->nb[1]);
    return;
  }
  mask_.assign(static_cast<std::size_t>(visible_.num_queries * op.columns()), 0);  // f16 0: visible
  visible_.mask = mask_.data();
  if (op.mask == nullptr) return;
  auto to = mask_.begin();
  for (std::int64_t stream = first_stream; stream < first_stream + num_streams; ++stream)
    for (std::int64_t token = 0; token < op.tokens(); ++token)
      to = std::copy_n(mask_line(op, token, stream), op.columns(), to);
}

/// Fills rows_ and row_begin_. False when the mask, as it is, says the same, or more than lists can.
bool VisibleColumns::list_rows(WriteOrder& order) {
  rows_.clear();
  row_begin_.assign(1, 0);
  bool moved = false;
  const std::int64_t stride = visible_.mask_stride != 0
                                  ? visible_.mask_stride / static_cast<std::int64_t>(sizeof(std::uint16_t))
                                  : visible_.num_columns;
  for (std::int64_t query = 0; query < visible_.num_queries; ++query) {
    const std::uint16_t* line = visible_.mask + query * stride;
    for (std::int64_t column = 0; column < visible_.num_columns; ++column) {
      if (line[column] == kHidden) continue;
      if ((line[column] & kMagnitude) != 0) return false;
      rows_.push_back(first_row_[static_cast<std::size_t>(query)] + column);
    }
    moved |= order.sort(std::span(rows_).subspan(static_cast<std::size_t>(row_begin_.back())));
    row_begin_.push_back(static_cast<std::int64_t>(rows_.size()));
  }
  return moved;
}

const td_visibility& VisibleColumns::of_cache(const AttentionOp& op, WriteOrder* order) {
  set(op, 0, op.streams());
  first_row_.clear();
  for (std::int64_t stream = 0; stream < op.streams(); ++stream)
    first_row_.insert(first_row_.end(), static_cast<std::size_t>(op.tokens()), first_row(op, stream));
  visible_.first_row = first_row_.data();
  if (order != nullptr && !order->is_by_row() && list_rows(*order)) {
    visible_.kind = TD_VISIBLE_ROWS;
    visible_.rows = rows_.data();
    visible_.row_begin = row_begin_.data();
  }
  return visible_;
}

const td_visibility& VisibleColumns::of_stream(const AttentionOp& op, std::int64_t stream) {
  set(op, stream, 1);
  return visible_;
}

}  // namespace tandem::ggml
