#include "runtime/borrowed/row_fingerprints.h"

#include <algorithm>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "runtime/base/random.h"

namespace tandem {
namespace {

std::uint32_t fingerprint(const cpu::KvStore& store, std::int64_t row) noexcept {
  const cpu::RowLayout& layout = store.layout();
  const auto bytes = static_cast<std::size_t>(bytes_of(layout.dtype, layout.dim_k));
  return static_cast<std::uint32_t>(XXH3_64bits(store.row(row), bytes));
}

}  // namespace

void RowFingerprints::extend(const cpu::KvStore& store) {
  for (std::int64_t row = size(); row < store.size(); ++row) values_.push_back(fingerprint(store, row));
}

bool RowFingerprints::matches(const cpu::KvStore& store, std::int64_t row) const noexcept {
  return values_[static_cast<std::size_t>(row)] == fingerprint(store, row);
}

bool RowFingerprints::match(const cpu::KvStore& store, const cpu::Selection& selection, std::int64_t begin,
                            std::int64_t end, std::int64_t probes, std::uint64_t key) const noexcept {
  const auto same = [&](std::uint32_t row) { return matches(store, row); };
  if (!std::all_of(selection.rows.begin(), selection.rows.end(), same)) return false;
  if (!std::all_of(selection.sampled.rows.begin(), selection.sampled.rows.end(), same)) return false;
  if (end <= begin) return true;
  CounterRandom random(key, 0);
  for (std::int64_t i = 0; i < probes; ++i) {
    const std::uint64_t offset = random.below(static_cast<std::uint64_t>(end - begin));
    if (!matches(store, begin + static_cast<std::int64_t>(offset))) return false;
  }
  return true;
}

}  // namespace tandem
