#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/listed_attention.h"
#include "cpu/row_runs.h"

namespace tandem {

/// Which rows of a pool each query sees, as an engine says it; see td_visibility.
struct Visibility {
  enum class Kind { mask, rows, blocks };
  Kind kind = Kind::mask;
  std::int64_t num_queries = 0;
  const std::uint16_t* mask = nullptr;
  std::int64_t mask_stride = 0;  ///< bytes
  std::int64_t num_columns = 0;
  const std::int64_t* first_row = nullptr;
  const std::int64_t* rows = nullptr;
  const std::int64_t* row_begin = nullptr;
  const std::int32_t* blocks = nullptr;
  std::int64_t block_stride = 0;
  std::int64_t block_size = 0;
  const std::int64_t* num_tokens = nullptr;
};

/// The rows that one query sees.
struct VisibleRowList {
  cpu::RowRuns rows;
  cpu::RowBias bias;  ///< mask nullptr: nothing is added
};

/// Fills `lists`, one for each query, of rows in [0, num_rows). Throws Error(invalid_argument) naming the field, the
/// value and what is allowed.
void list_visible(const Visibility& visibility, std::int64_t num_rows, std::vector<VisibleRowList>& lists);

}  // namespace tandem
