#pragma once

#include <cstdint>
#include <vector>

#include "runtime/borrowed/listed_tasks.h"
#include "runtime/borrowed/row_list.h"
#include "runtime/borrowed/visibility.h"

namespace tandem {

/// A query whose rows are those of a list.
struct ListQuery {
  std::int64_t query;
  RowList* list;
};

/// What one call on a pool keeps besides StepBuffers. Lent by a LeasePool.
struct RowsBuffers {
  std::vector<VisibleRowList> visible;  ///< by query
  std::vector<ListQuery> selecting;     ///< those that see most first
  std::vector<std::uint8_t> selects;    ///< (queries, KV heads)
  ListedTasks exact;
};

}  // namespace tandem
