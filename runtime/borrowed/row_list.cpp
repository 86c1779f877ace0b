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
  const std::int64_t known = length();
  reserve(all.count());
  try {
    all.visit(known, all.count(), [&](std::int64_t begin, std::int64_t count) { rows_.add(begin, count); });
  } catch (...) {
    rows_.truncate(known);
    throw;
  }
  places_->resize(static_cast<std::size_t>(length()));
  auto place = places_->begin() + static_cast<std::ptrdiff_t>(known);
  all.visit(known, all.count(), [&](std::int64_t begin, std::int64_t count) {
    std::iota(place, place + count, static_cast<std::uint32_t>(begin));
    place += count;
  });
  publish();
}

std::int64_t RowList::publishable() const noexcept {
  // As in a window that holds a page more at most.
  const std::int64_t stored = length() - layer_.first_host_position();
  return std::max<std::int64_t>(0, stored - latest_rows_ - 1) / cpu::kPageRows * cpu::kPageRows;
}

void RowList::publish() {
  const std::int64_t stored = std::max<std::int64_t>(0, length() - layer_.first_host_position());
  for (HeadState& head : layer_.heads) {
    head.store.borrow_up_to(stored);
    head.store.publish(std::max(head.store.size(), publishable()));
    head.borrowed->fingerprints.extend(head.store);
  }
}

void RowList::truncate(std::int64_t length) {
  if (length >= this->length()) return;
  const std::int64_t stored = std::max<std::int64_t>(0, length - layer_.first_host_position());
  const std::int64_t size = std::min(indexed_rows(), stored / cpu::kPageRows * cpu::kPageRows);
  std::vector<lsh::HeadIndex> indexes;  // what can be refused memory comes first
  if (size < indexed_rows()) {
    for (const HeadState& head : layer_.heads) indexes.push_back(head.index.fork(size));
  }
  for (std::size_t h = 0; h < layer_.heads.size(); ++h) {
    HeadState& head = layer_.heads[h];
    if (!indexes.empty()) head.index = std::move(indexes[h]);
    head.store = head.store.fork(size, stored);
    head.borrowed->fingerprints.truncate(size);
    head.queries.truncate(length);
  }
  places_->resize(static_cast<std::size_t>(length));
  rows_.truncate(length);
}

void RowList::fork_into(RowList& copy, std::int64_t length) {
  copy.reserve(length);
  copy.rows_ = rows_;
  copy.rows_.truncate(length);
  copy.places_->assign(places_->begin(), places_->begin() + static_cast<std::ptrdiff_t>(length));
  const std::int64_t common = std::min(indexed_rows(), copy.publishable());
  for (std::size_t h = 0; h < layer_.heads.size(); ++h) {
    HeadState& mine = layer_.heads[h];
    HeadState& its = copy.layer_.heads[h];
    its.borrowed->fingerprints.take_over(mine.borrowed->fingerprints, common);  // of the rows when they were coded
    its.index = mine.index.fork(common);
    its.queries = mine.queries.fork();
    its.queries.truncate(length);
  }
  copy.publish();
}

RowList::Stale RowList::find_stale() const {
  Stale stale{length(), 0};
  for (std::int64_t row = layer_.heads.front().store.size() - 1; row >= 0; --row) {
    const bool matches = std::all_of(layer_.heads.begin(), layer_.heads.end(), [&](const HeadState& head) {
      return head.borrowed->fingerprints.matches(head.store, row);
    });
    if (matches) continue;
    stale.first = layer_.first_host_position() + row;
    ++stale.count;
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
