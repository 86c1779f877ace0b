#include "numa/memory_ledger.h"

#include <cassert>
#include <iomanip>
#include <iterator>
#include <sstream>
#include <string>

#include "runtime/base/error.h"

namespace tandem::numa {
namespace {

/// In the largest binary unit that leaves a number of at least one.
std::string in_units(std::int64_t bytes) {
  constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  std::ostringstream text;
  text << std::fixed << std::setprecision(unit == 0 ? 0 : 1) << value << ' ' << kUnits[unit];
  return text.str();
}

}  // namespace

Reservation::~Reservation() {
  if (ledger_ != nullptr) ledger_->used_bytes_.fetch_sub(bytes_, std::memory_order_relaxed);
}

MemoryLedger::MemoryLedger(std::int64_t limit_bytes) : limit_bytes_(limit_bytes) { assert(limit_bytes >= 0); }

Reservation MemoryLedger::reserve(std::int64_t bytes, const char* what) {
  assert(bytes >= 0);
  std::int64_t used = used_bytes_.load(std::memory_order_relaxed);
  do {
    const std::int64_t left = limit_bytes_ - used;
    TANDEM_CHECK(bytes <= left, out_of_memory, "host memory: ", what, " needs ", in_units(bytes), " (", bytes,
                 " bytes), but only ", in_units(left), " (", left, " bytes) of the ", in_units(limit_bytes_),
                 " limit are left");
  } while (!used_bytes_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
  return {this, bytes};
}

}  // namespace tandem::numa
