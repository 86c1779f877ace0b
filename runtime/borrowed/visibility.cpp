#include "runtime/borrowed/visibility.h"

#include <algorithm>
#include <cstring>

#include "runtime/base/error.h"

namespace tandem {
namespace {

constexpr std::uint16_t kHidden = 0xfc00;  // -inf as f16
constexpr int kWord = 4;                   // halves that are looked at together
constexpr std::uint64_t kHiddenWord = 0xfc00fc00fc00fc00u;

/// Adds the visible columns of one query's mask; true where one of them adds something to the logits.
bool add_columns(const std::uint16_t* mask, std::int64_t columns, std::int64_t first_row, std::int64_t query,
                 cpu::RowRuns& rows) {
  bool biased = false;
  std::int64_t visible_from = -1;  // column; -1: the last one was hidden
  const auto see = [&](std::int64_t column) {
    if (visible_from < 0) visible_from = column;
  };
  const auto hide = [&](std::int64_t column) {
    if (visible_from >= 0) rows.add(first_row + visible_from, column - visible_from);
    visible_from = -1;
  };
  for (std::int64_t c = 0; c < columns;) {
    if (c + kWord <= columns) {
      std::uint64_t word;
      std::memcpy(&word, mask + c, sizeof(word));
      if (word == 0 || word == kHiddenWord) {
        if (word == 0) see(c);
        if (word != 0) hide(c);
        c += kWord;
        continue;
      }
    }
    const std::uint16_t value = mask[c];
    if (value == kHidden) {
      hide(c);
    } else {
      TANDEM_CHECK((value & 0x7c00) != 0x7c00, invalid_argument, "mask[", query, "][", c, "] is ",
                   (value & 0x3ff) != 0 ? "NaN" : "+inf", "; allowed: finite values, and -inf for a hidden row");
      biased |= (value & 0x7fff) != 0;
      see(c);
    }
    ++c;
  }
  hide(columns);
  return biased;
}

void list_masked(const Visibility& v, std::int64_t num_rows, std::vector<VisibleRowList>& lists) {
  TANDEM_CHECK(v.num_columns >= 0 && v.num_columns <= num_rows, invalid_argument, "visible.num_columns is ",
               v.num_columns, "; allowed: 0 to ", num_rows, ", the rows of the pool");
  TANDEM_CHECK(v.mask != nullptr || v.num_columns == 0, invalid_argument, "visible.mask is NULL");
  const std::int64_t dense = v.num_columns * 2;
  const std::int64_t stride = v.mask_stride == 0 ? dense : v.mask_stride;
  TANDEM_CHECK(stride >= dense && stride % 2 == 0, invalid_argument, "visible.mask_stride is ", v.mask_stride,
               " bytes; allowed: even, ", dense, " or more, or 0 for dense");
  for (std::int64_t q = 0; q < v.num_queries; ++q) {
    const std::int64_t first = v.first_row == nullptr ? 0 : v.first_row[q];
    TANDEM_CHECK(first >= 0 && first <= num_rows - v.num_columns, invalid_argument, "visible.first_row[", q, "] is ",
                 first, "; allowed: 0 to ", num_rows - v.num_columns);
    const auto* mask = reinterpret_cast<const std::uint16_t*>(reinterpret_cast<const std::byte*>(v.mask) + q * stride);
    VisibleRowList& list = lists[static_cast<std::size_t>(q)];
    if (add_columns(mask, v.num_columns, first, q, list.rows)) list.bias = {mask, first};
  }
}

void list_rows(const Visibility& v, std::int64_t num_rows, std::vector<VisibleRowList>& lists) {
  TANDEM_CHECK(v.row_begin != nullptr, invalid_argument, "visible.row_begin is NULL");
  for (std::int64_t q = 0; q < v.num_queries; ++q) {
    const std::int64_t begin = v.row_begin[q], end = v.row_begin[q + 1];
    TANDEM_CHECK(begin >= 0 && end >= begin && end - begin <= num_rows, invalid_argument, "visible.row_begin[", q,
                 "] and [", q + 1, "] are ", begin, " and ", end, "; allowed: ascending from 0, at most ", num_rows,
                 " apart, the rows of the pool");
    TANDEM_CHECK(v.rows != nullptr || begin == end, invalid_argument, "visible.rows is NULL");
    for (std::int64_t i = begin; i < end; ++i) {
      TANDEM_CHECK(v.rows[i] >= 0 && v.rows[i] < num_rows, invalid_argument, "visible.rows[", i, "] is ", v.rows[i],
                   "; allowed: 0 to ", num_rows - 1);
      lists[static_cast<std::size_t>(q)].rows.add(v.rows[i], 1);
    }
  }
}

void list_blocks(const Visibility& v, std::int64_t num_rows, std::vector<VisibleRowList>& lists) {
  TANDEM_CHECK(v.block_size >= 1 && v.block_size <= num_rows, invalid_argument, "visible.block_size is ", v.block_size,
               "; allowed: 1 to ", num_rows);
  TANDEM_CHECK(v.num_tokens != nullptr, invalid_argument, "visible.num_tokens is NULL");
  for (std::int64_t q = 0; q < v.num_queries; ++q) {
    const std::int64_t tokens = v.num_tokens[q];
    TANDEM_CHECK(tokens >= 0 && tokens <= num_rows, invalid_argument, "visible.num_tokens[", q, "] is ", tokens,
                 "; allowed: 0 to ", num_rows, ", the rows of the pool");
    TANDEM_CHECK(v.blocks != nullptr || tokens == 0, invalid_argument, "visible.blocks is NULL");
    const std::int32_t* line = v.blocks + q * v.block_stride;
    for (std::int64_t t = 0; t < tokens; t += v.block_size) {
      const std::int64_t block = line[t / v.block_size];
      const std::int64_t count = std::min(v.block_size, tokens - t);
      TANDEM_CHECK(block >= 0 && block * v.block_size + count <= num_rows, invalid_argument, "visible.blocks of query ",
                   q, " has block ", block, " for token ", t, "; allowed: blocks of rows below ", num_rows);
      lists[static_cast<std::size_t>(q)].rows.add(block * v.block_size, count);
    }
  }
}

}  // namespace

void list_visible(const Visibility& visibility, std::int64_t num_rows, std::vector<VisibleRowList>& lists) {
  lists.resize(static_cast<std::size_t>(visibility.num_queries));
  for (VisibleRowList& list : lists) {
    list.rows.clear();
    list.bias = {};
  }
  switch (visibility.kind) {
    case Visibility::Kind::mask:
      return list_masked(visibility, num_rows, lists);
    case Visibility::Kind::rows:
      return list_rows(visibility, num_rows, lists);
    case Visibility::Kind::blocks:
      return list_blocks(visibility, num_rows, lists);
  }
}

}  // namespace tandem
