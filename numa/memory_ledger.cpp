#include "numa/memory_ledger.h"

#include <cassert>
#include <iomanip>
#include <sstream>
#include <string>

#include "runtime/base/error.h"

namespace tandem::numa {
namespace {

std::string in_gib(std::int64_t bytes) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(1) << static_cast<double>(bytes) / static_cast<double>(1 << 30) << " GiB";
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
    TANDEM_CHECK(bytes <= left, out_of_memory, "host memory: ", what, " needs ", in_gib(bytes), " (", bytes,
                 " bytes), but only ", in_gib(left), " (", left, " bytes) of the ", in_gib(limit_bytes_),
                 " limit are left");
  } while (!used_bytes_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
  return {this, bytes};
}

}  // namespace tandem::numa
