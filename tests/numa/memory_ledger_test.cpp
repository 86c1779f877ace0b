#include "numa/memory_ledger.h"

#include <limits>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/error.h"

namespace tandem::numa {
namespace {

constexpr std::int64_t kGib = std::int64_t{1} << 30;

std::string refusal(MemoryLedger& ledger, std::int64_t bytes, const char* what) {
  try {
    ledger.reserve(bytes, what);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
    return error.what();
  }
  ADD_FAILURE() << "the ledger did not refuse " << bytes << " bytes";
  return {};
}

TEST(MemoryLedger, CountsWhatIsReservedAndGivenBack) {
  MemoryLedger ledger(100);
  EXPECT_EQ(ledger.limit_bytes(), 100);
  {
    const Reservation a = ledger.reserve(60, "a");
    EXPECT_EQ(a.bytes(), 60);
    const Reservation b = ledger.reserve(40, "b");
    EXPECT_EQ(ledger.used_bytes(), 100);
    const Reservation nothing = ledger.reserve(0, "nothing");
    EXPECT_EQ(ledger.used_bytes(), 100);
  }
  EXPECT_EQ(ledger.used_bytes(), 0);
}

TEST(MemoryLedger, RefusesWithFiguresAndStaysUnchanged) {
  MemoryLedger ledger(18 * kGib);
  const Reservation held = ledger.reserve(15 * kGib, "held");
  EXPECT_EQ(refusal(ledger, 12 * kGib, "the KV store"),
            "host memory: the KV store needs 12.0 GiB (12884901888 bytes), but only 3.0 GiB (3221225472 bytes) of the "
            "18.0 GiB limit are left");
  EXPECT_EQ(ledger.used_bytes(), 15 * kGib);
  const Reservation rest = ledger.reserve(3 * kGib, "exactly what is left");
  EXPECT_THAT(refusal(ledger, 1, "one more"), testing::HasSubstr("(0 bytes)"));
}

TEST(MemoryLedger, SurvivesTheLargestSizes) {
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  MemoryLedger ledger(kMost);
  const Reservation all_but_one = ledger.reserve(kMost - 1, "all but one");
  EXPECT_THAT(refusal(ledger, kMost, "all again"), testing::HasSubstr("(1 bytes)"));
  EXPECT_EQ(ledger.reserve(1, "the last").bytes(), 1);
}

TEST(MemoryLedger, ReservationsMove) {
  MemoryLedger ledger(10);
  Reservation a = ledger.reserve(3, "a");
  Reservation b(std::move(a));
  EXPECT_EQ(b.bytes(), 3);
  {
    Reservation c = ledger.reserve(4, "c");
    b = std::move(c);
    EXPECT_EQ(b.bytes(), 4);
  }
  EXPECT_EQ(ledger.used_bytes(), 4);
  b = Reservation();
  EXPECT_EQ(ledger.used_bytes(), 0);
}

TEST(MemoryLedger, EightThreadsNeverExceedTheLimit) {
  constexpr int kThreads = 8;
  constexpr std::int64_t kLimit = 1000;
  MemoryLedger ledger(kLimit);
  std::atomic<std::int64_t> held_by_all{0};
  std::atomic<int> violations{0};
  std::atomic<int> refusals{0};
  const auto work = [&](int thread) {
    for (int i = 0; i < 2000; ++i) {
      const std::int64_t bytes = (thread * 131 + i * 37) % 400;
      try {
        const Reservation reservation = ledger.reserve(bytes, "test");
        if (held_by_all.fetch_add(bytes) + bytes > kLimit || ledger.used_bytes() > kLimit) ++violations;
        held_by_all.fetch_sub(bytes);
      } catch (const Error&) {
        ++refusals;
      }
    }
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) threads.emplace_back(work, t);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(violations, 0);
  EXPECT_EQ(ledger.used_bytes(), 0);
  EXPECT_LT(refusals, kThreads * 2000);
}

#ifndef NDEBUG
TEST(MemoryLedgerDeathTest, NegativeSizesAreBugs) {
  MemoryLedger ledger(10);
  EXPECT_DEATH(ledger.reserve(-1, "negative"), "bytes >= 0");
}
#endif

}  // namespace
}  // namespace tandem::numa
