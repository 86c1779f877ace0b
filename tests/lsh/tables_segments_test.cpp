// LshTables at the borders of segments: what is found, insertion, forks and truncation inside an earlier segment.
#include <gtest/gtest.h>

#include "runtime/base/error.h"
#include "tests/lsh/naive_tables.h"

namespace tandem::lsh {
namespace {

using testing::IndexFixture;

constexpr std::int64_t kSegment = TableSegment::kMaxRows;
constexpr LshParams kParams{7, 12, 2, 5};

/// Rows, their tables, and what comparing all codes finds.
struct Indexed {
  explicit Indexed(std::int64_t rows, std::int64_t step = 0) : fixture(16, 3), index(fixture.empty(selector)) {
    const auto keys = fixture.random_keys(rows);
    step = step == 0 ? rows : step;
    for (std::int64_t begin = 0; begin < rows; begin += step) {
      const std::int64_t end = std::min(rows, begin + step);
      fixture.append({keys.begin() + begin * 16, keys.begin() + end * 16});
      if (begin == 0) first_rows = end;
      index.extend(fixture.kernels, fixture.rows.store, fixture.observed, fixture.scratch);
    }
    q = fixture.random_queries();
  }
  [[nodiscard]] std::vector<std::uint64_t> masks() {
    std::vector<double> sum(16, 0.0);
    for (std::int64_t i = 0; i < first_rows * 16; ++i)
      sum[static_cast<std::size_t>(i % 16)] += fixture.keys[static_cast<std::size_t>(i)];
    std::vector<float> mean;
    for (const double s : sum) mean.push_back(static_cast<float>(s / static_cast<double>(first_rows)));
    const auto& hash = *selector.hash();
    return testing::naive_masks(testing::codes_of(hash, fixture.keys, 16, mean), testing::codes_of(hash, q, 16, {}),
                                kParams.num_tables, kParams.min_collisions);
  }
  void expect_found(const HeadIndex& tables, std::int64_t begin, std::int64_t end) {
    if (expected.empty()) expected = masks();
    testing::expect_selection(fixture.select(tables, q, begin, end), expected, begin, end);
  }

  Selector selector{kParams, 16};
  IndexFixture fixture;
  HeadIndex index;
  std::int64_t first_rows = 0;
  std::vector<float> q;
  std::vector<std::uint64_t> expected;
};

class SegmentBorders : public ::testing::TestWithParam<std::int64_t> {};

INSTANTIATE_TEST_SUITE_P(LshTables, SegmentBorders,
                         ::testing::Values(kSegment - 1, kSegment, kSegment + 1, kSegment + 255, kSegment + 256,
                                           2 * kSegment - 1, 2 * kSegment, 2 * kSegment + 1, 2 * kSegment + 300));

TEST_P(SegmentBorders, AllRowsAreFound) {
  const std::int64_t rows = GetParam();
  Indexed all(rows);
  all.expect_found(all.index, 0, rows);
  all.expect_found(all.index, kSegment - 70, rows);
  all.expect_found(all.index, 130, kSegment - 1);
}

TEST(LshTablesSegments, GrowingOverABorderFindsTheSame) {
  for (const std::int64_t step : {std::int64_t{8191}, std::int64_t{32767}}) {
    Indexed grown(kSegment + 8000, step);
    grown.expect_found(grown.index, 0, kSegment + 8000);
  }
}

TEST(LshTablesSegments, ForksInsideAnySegmentFindTheSameAndGrow) {
  Indexed all(2 * kSegment + 200);
  for (const std::int64_t size : {std::int64_t{1}, kSegment - 1, kSegment, kSegment + 1, 2 * kSegment - 1, 2 * kSegment,
                                  2 * kSegment + 1, 2 * kSegment + 199}) {
    HeadIndex fork = all.index.fork(size);
    all.expect_found(fork, 0, size);
    fork.extend(all.fixture.kernels, all.fixture.rows.store, all.fixture.observed, all.fixture.scratch);
    all.expect_found(fork, 0, 2 * kSegment + 200);
  }
  all.expect_found(all.index, 0, 2 * kSegment + 200);
}

TEST(LshTablesSegments, AForkCopiesAtMostOneSegment) {
  IndexFixture fixture(16, 1);
  numa::MemoryLedger ledger(std::int64_t{1} << 30);
  fixture.append(fixture.random_keys(2 * kSegment + 300));
  HeadIndex index(Selector(kParams, 16), {&ledger, &fixture.pools, 0}, 0);
  index.extend(fixture.kernels, fixture.rows.store, fixture.observed, fixture.scratch);
  EXPECT_EQ(ledger.used_bytes(), index.bytes());
  const std::int64_t tables = 2 * kParams.num_tables;
  for (const auto& [size, copied] : {std::pair<std::int64_t, std::int64_t>{2 * kSegment + 300, 0},
                                     {2 * kSegment + 10, tables * (129 + 10)},
                                     {2 * kSegment, 0},
                                     {kSegment + 77, tables * (129 + 77)},
                                     {kSegment, 0}}) {
    const std::int64_t before = ledger.used_bytes();
    const HeadIndex fork = index.fork(size);
    EXPECT_EQ(ledger.used_bytes() - before, copied + size * 4 + 16 * 4) << size;
  }
}

TEST(LshTablesSegments, ARefusedForkLeavesNothingBehind) {
  IndexFixture fixture(16, 1);
  numa::MemoryLedger ledger(3 << 20);
  fixture.append(fixture.random_keys(kSegment + 300));
  HeadIndex index(Selector(kParams, 16), {&ledger, &fixture.pools, 0}, 0);
  index.extend(fixture.kernels, fixture.rows.store, fixture.observed, fixture.scratch);
  const std::int64_t used = ledger.used_bytes();
  const auto ballast = ledger.reserve(ledger.limit_bytes() - used - 1000, "ballast");
  EXPECT_THROW((void)index.fork(kSegment - 1), Error);
  EXPECT_EQ(ledger.used_bytes(), ledger.limit_bytes() - 1000);
}

}  // namespace
}  // namespace tandem::lsh
