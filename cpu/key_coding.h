#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <variant>

#include "cpu/codec/simhash.h"
#include "cpu/codec/sketch.h"
#include "cpu/isa.h"
#include "cpu/kv_store.h"

namespace tandem::cpu {

/// Rows that an index codes at a time, and a block of its codes has.
inline constexpr std::int64_t kCodedBlockRows = 64;
static_assert(kCodedBlockRows == kSketchBlockRows && kCodedBlockRows == kCodeBlock);

/// Sketches of transformed keys, as SketchKernels make them.
struct SketchTables {
  const SketchFormat* format;
  const float* planes;  ///< (padded_k, format->padded_dims)
};

/// Rows of one head that become codes, and where these go: the very bytes that the kernels of an instruction set make
/// of them. All of it is host memory that stays as it is meanwhile.
struct KeyCoding {
  const KvStore* store;
  std::int64_t first;  ///< rows [first, first + count) are coded
  std::int64_t count;
  const float* mean;  ///< (padded_k), subtracted from the keys
  std::variant<SketchTables, const SimHash*> tables;
  std::weak_ptr<const void> owner;  ///< of the tables, which it tells from others: copies of them may be kept
  bool fused;                       ///< see fuses()
  /// By kCodedBlockRows rows from `first` on: a block of SketchFormat, or codes (num_tables, kCodedBlockRows). Whole
  /// blocks are written; what lies beyond the rows becomes 0.
  std::byte* const* blocks;
  float* inverse_norms = nullptr;  ///< (count), for SimHash: 1 / |k - mean|, or 0 when k is the mean
};

/// Codes keys elsewhere than on the caller's thread, and returns when the codes are there. False, and nothing is done,
/// where the caller should do it: for formats that it does not know, or for lack of memory. Thread-safe. Throws
/// Error(device_lost).
using KeyCoder = std::function<bool(const KeyCoding&)>;

/// Rows from which on a coder is asked. A call costs it about 100 us, whatever the rows: planes to send, two copies,
/// two launches, and what was given to the device before. The CPU has coded 256 rows by then, and does not disturb the
/// step.
inline constexpr std::int64_t kFewestRowsToHandOver = 512;

/// Whether the sums of an instruction set's kernels join multiplication and addition, which their codes depend on.
constexpr bool fuses(Isa isa) noexcept { return isa != Isa::scalar; }

}  // namespace tandem::cpu
