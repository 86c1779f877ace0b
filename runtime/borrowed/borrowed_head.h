#pragma once

#include <atomic>
#include <cstdint>

#include "runtime/borrowed/row_fingerprints.h"

namespace tandem {

/// What a head keeps besides where its rows are borrowed.
struct BorrowedHead {
  RowFingerprints fingerprints;     ///< of the rows of the store
  std::int64_t probes = 0;          ///< that each selection draws; -1: nothing is compared
  std::atomic<bool> stale = false;  ///< set by a selection that came upon a row which had been written
};

}  // namespace tandem
