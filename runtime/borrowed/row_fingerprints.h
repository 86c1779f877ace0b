#pragma once

#include <cstdint>
#include <vector>

#include "cpu/kv_store.h"
#include "cpu/selection.h"

namespace tandem {

/// Hashes of the keys of a borrowed store's rows, 32 bits each, as they were when the rows were indexed: a row that an
/// engine has written since is found by it, but for one in 2^32. Not thread-safe.
class RowFingerprints {
 public:
  [[nodiscard]] std::int64_t size() const noexcept { return static_cast<std::int64_t>(values_.size()); }
  /// Makes room, so that extending to `rows` rows cannot fail. Throws std::bad_alloc.
  void reserve(std::int64_t rows) { values_.reserve(static_cast<std::size_t>(rows)); }
  /// Takes those of the rows [size(), store.size()).
  void extend(const cpu::KvStore& store);
  /// Takes the first `count` of another's in place of its own.
  void take_over(const RowFingerprints& other, std::int64_t count) {
    values_.assign(other.values_.begin(), other.values_.begin() + count);
  }
  void truncate(std::int64_t size) { values_.resize(static_cast<std::size_t>(size)); }

  [[nodiscard]] bool matches(const cpu::KvStore& store, std::int64_t row) const noexcept;
  /// Whether all rows of `selection` match, and `probes` others that `key` draws of the rows [begin, end).
  [[nodiscard]] bool match(const cpu::KvStore& store, const cpu::Selection& selection, std::int64_t begin,
                           std::int64_t end, std::int64_t probes, std::uint64_t key) const noexcept;

 private:
  std::vector<std::uint32_t> values_;
};

}  // namespace tandem
