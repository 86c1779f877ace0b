#include "runtime/borrowed/row_pool.h"

#include <algorithm>

#include "runtime/base/error.h"

namespace tandem {
namespace {

/// As many as an engine may decode at a time, and as many again that come back.
constexpr std::size_t kMostLists = 64;

}  // namespace

RowList& RowPool::new_list() {
  if (lists_.size() >= kMostLists) {
    const auto oldest = std::min_element(lists_.begin(), lists_.end(),
                                         [](const auto& a, const auto& b) { return a->last_use < b->last_use; });
    if ((*oldest)->last_use < calls_) lists_.erase(oldest);
  }
  lists_.push_back(make_list_(rows_));
  return *lists_.back();
}

bool RowPool::returns(const cpu::RowRuns& rows) {
  const auto before = std::find_if(candidates_.begin(), candidates_.end(),
                                   [&](const cpu::RowRuns& seen) { return rows.common_prefix(seen) == seen.count(); });
  if (before != candidates_.end()) {
    candidates_.erase(before);
    return true;
  }
  if (candidates_.size() == kMostLists) candidates_.erase(candidates_.begin());
  candidates_.push_back(rows);
  return false;
}

RowList* RowPool::list_of(const cpu::RowRuns& rows) {
  RowList* list = nullptr;
  std::int64_t most = 0;
  for (const auto& other : lists_) {
    const std::int64_t common = other->rows().common_prefix(rows);
    const bool ends_there = common == other->length();  // of two that have as much in common, the one that goes on
    if (common < most || common == 0 || (common == most && !ends_there)) continue;
    most = common;
    list = other.get();
  }
  const bool starts_as = list != nullptr && most == rows.count();  // what is beyond lies in the query's future
  const bool goes_on = list != nullptr && most == list->length();
  if (!starts_as && !goes_on) {
    if (!returns(rows)) return nullptr;
    const std::uint64_t source = most < kFewestRows ? 0 : list->id();
    list = &new_list();  // which may drop one, but none of those in use
    const auto found = std::find_if(lists_.begin(), lists_.end(), [&](const auto& l) { return l->id() == source; });
    try {
      if (found != lists_.end()) (*found)->fork_into(*list, most);
    } catch (...) {
      lists_.pop_back();
      throw;
    }
  }
  list->last_use = calls_;
  if (!starts_as) list->extend(rows);
  return list;
}

void RowPool::cut(RowList& list, std::int64_t length) {
  const std::int64_t indexed = list.indexed_rows();
  list.truncate(length);
  rows_forgotten_ += indexed - list.indexed_rows();
}

void RowPool::drop_short_lists() noexcept {
  std::erase_if(lists_, [](const auto& list) { return list->length() < kFewestRows; });
}

void RowPool::forget(const cpu::RowRuns& rows) {
  try {
    for (const auto& list : lists_) {
      std::int64_t first = list->length();
      for (const cpu::RowRun& run : rows.runs()) first = std::min(first, list->first_of(run.begin, run.count));
      cut(*list, first);
    }
  } catch (...) {  // a page that a cut would have shared could not be copied; without any index nothing is wrong
    forget_all();
  }
  drop_short_lists();
}

std::int64_t RowPool::forget_stale_of(RowList& list) {
  const RowList::Stale stale = list.find_stale();
  rows_found_ += stale.count;
  cut(list, stale.first);
  return stale.count;
}

std::int64_t RowPool::forget_stale() {
  std::int64_t count = 0;
  try {
    for (const auto& list : lists_) count += forget_stale_of(*list);
  } catch (...) {
    forget_all();
  }
  drop_short_lists();
  return count;
}

bool RowPool::forget_found() {
  bool any = false;
  try {
    for (const auto& list : lists_) {
      bool found = false;
      for (HeadState& head : list->layer().heads) found |= head.borrowed->stale.exchange(false);
      any |= found;
      if (found) forget_stale_of(*list);
    }
  } catch (...) {
    forget_all();
  }
  drop_short_lists();
  return any;
}

RowPoolLock::RowPoolLock(RowPool& pool) : pool_(pool) {
  TANDEM_CHECK(!pool.busy_.exchange(true, std::memory_order_acquire), invalid_state, "pool ", pool.id(),
               " is in use by another call; one call at a time");
  if (pool.bound_) return;
  pool.busy_.store(false, std::memory_order_release);
  fail(ErrorCode::invalid_state, "pool ", pool.id(), " does not exist or was unbound");
}

}  // namespace tandem
