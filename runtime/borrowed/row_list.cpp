#include "runtime/borrowed/row_list.h"

#include <algorithm>
#include <numeric>

namespace tandem {
namespace {

constexpr std::int64_t kPlaceBytes = sizeof(std::uint32_t);
constexpr std::int64_t kLeastCapacity = 4096;  // rows

}  // namespace

RowList::RowList(std::uint64_t id, const EmptyLayer& empty_layer, std::int64_t latest_rows, numa::MemoryLedger& ledger)
    : id_(id),
      latest_rows_(latest_rows),
      ledger_(ledger),
      places_(std::make_shared<std::vector<std::uint32_t>>()),
      layer_(empty_layer(places_)) {}

std::int64_t RowList::bytes() const noexcept {
  std::int64_t bytes = memory_.bytes();
  for (const HeadState& head : layer_.heads) bytes += head.index.bytes();
  return bytes;
}

void RowList::reserve(std::int64_t rows) {
  if (rows <= capacity_) return;
  const std::int64_t capacity = std::max({rows, capacity_ / 2 * 3, kLeastCapacity});
  const std::int64_t words = 1 + static_cast<std::int64_t>(layer_.heads.size());
  numa::Reservation memory = ledger_.reserve(capacity * words * kPlaceBytes, "borrowed rows");
  places_->reserve(static_cast<std::size_t>(capacity));
  for (HeadState& head : layer_.heads) head.borrowed->fingerprints.reserve(capacity);
  memory_ = std::move(memory);
  capacity_ = capacity;
}

void RowList::extend(const cpu::RowRuns& all) {
  reserve(all.count());
  cpu::RowRuns longer = rows_;
  all.visit(length(), all.count(), [&](std::int64_t begin, std::int64_t count) { longer.add(begin, count); });
  const auto known = static_cast<std::size_t>(length());
  rows_ = std::move(longer);
  places_->resize(static_cast<std::size_t>(length()));
  auto place = places_->begin() + static_cast<std::ptrdiff_t>(known);
  rows_.visit(static_cast<std::int64_t>(known), length(), [&](std::int64_t begin, std::int64_t count) {
    std::iota(place, place + count, static_cast<std::uint32_t>(begin));
    place += count;
  });
  publish();
}

void RowList::publish() {
  const std::int64_t stored = std::max<std::int64_t>(0, length() - layer_.first_host_position());
  // As in a window that holds a page more at most.
  const std::int64_t old = std::max<std::int64_t>(0, stored - latest_rows_ - 1) / cpu::kPageRows * cpu::kPageRows;
  for (HeadState& head : layer_.heads) {
    head.store.borrow_up_to(stored);
    head.store.publish(std::max(head.store.size(), old));
    head.borrowed->fingerprints.extend(head.store);
  }
}

void RowList::truncate(std::int64_t length) {
  if (length >= this->length()) return;
  const std::int64_t stored = std::max<std::int64_t>(0, length - layer_.first_host_position());
  for (HeadState& head : layer_.heads) {
    if (stored < head.store.size()) {
      const std::int64_t size = stored / cpu::kPageRows * cpu::kPageRows;
      head.index = head.index.fork(size);
      head.store = head.store.fork(size, stored);
      head.borrowed->fingerprints.truncate(size);
    } else {
      head.store.borrow_up_to(stored);
    }
    head.queries.truncate(length);
  }
  places_->resize(static_cast<std::size_t>(length));
  rows_.truncate(length);
}

void RowList::fork_into(RowList& copy, std::int64_t length) {
  cpu::RowRuns rows = rows_;
  rows.truncate(length);
  copy.extend(rows);
  for (std::size_t h = 0; h < layer_.heads.size(); ++h) {
    HeadState& mine = layer_.heads[h];
    HeadState& its = copy.layer_.heads[h];
    const std::int64_t common = std::min(mine.store.size(), its.store.size());
    its.index = mine.index.fork(common);
    its.borrowed->fingerprints.take_over(mine.borrowed->fingerprints, common);  // of the rows when they were coded
    its.queries = mine.queries.fork();
    its.queries.truncate(length);
  }
}

RowList::Stale RowList::find_stale() const {
  Stale stale{length(), 0};
  for (const HeadState& head : layer_.heads) {
    for (std::int64_t row = head.store.size() - 1; row >= 0; --row) {
      if (head.borrowed->fingerprints.matches(head.store, row)) continue;
      stale.first = std::min(stale.first, layer_.first_host_position() + row);
      ++stale.count;
    }
  }
  return stale;
}

std::int64_t RowList::first_of(std::int64_t begin, std::int64_t count) const noexcept {
  std::int64_t index = 0;
  for (const cpu::RowRun& run : rows_.runs()) {
    const std::int64_t first = std::max(run.begin, begin);
    if (first < std::min(run.begin + run.count, begin + count)) return index + first - run.begin;
    index += run.count;
  }
  return index;
}

}  // namespace tandem
