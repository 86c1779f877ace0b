// Indexes that have somebody else code many rows at once: the same codes, whatever the calls in which the rows came.
#include <algorithm>
#include <atomic>

#include <gtest/gtest.h>

#include "runtime/base/error.h"
#include "tests/support/host_coder.h"
#include "tests/support/index_fixture.h"
#include "tests/support/sketch_fixture.h"

namespace tandem::lsh {
namespace {

using testing::chosen;
using testing::IndexFixture;
using testing::SketchFixture;

/// Counts what it is asked for, and refuses it, or does it.
struct Coder {
  explicit Coder(bool refuses = false)
      : code([this, refuses](const cpu::KeyCoding& coding) {
          EXPECT_GE(coding.count, cpu::kFewestRowsToHandOver);
          EXPECT_LE(coding.first + coding.count, coding.store->size());
          ++calls;
          rows += coding.count;
          if (!refuses) testing::code_on_host(cpu::kernels_for(cpu::choose_isa(std::nullopt)), coding);
          return !refuses;
        }) {}
  std::atomic<std::int64_t> calls = 0, rows = 0;
  cpu::KeyCoder code;
};

/// A head of `rows` rows and enough queries for an index.
struct Head : SketchFixture {
  explicit Head(std::int64_t count) : SketchFixture(64, 2, 1.0) {
    append(count);
    observe(40);
  }
  SketchIndex make(const cpu::KeyCoder* coder, BackgroundThread* thread = nullptr) {
    return {{.budget = 0.1}, {&rows.ledger, &pools, 0, thread, coder}, 5};
  }
  void show(SketchIndex& index, std::int64_t size) {
    index.commit(index.prepare(kernels, rows.store.fork(size), observed, scratch));
  }
  void expect_same(const SketchIndex& index, const SketchIndex& other) {
    for (std::uint64_t seed = 1; seed < 4; ++seed) {
      SketchFixture queries(64, 2, 1.0, seed);
      const auto q = queries.make_queries();
      const auto position = static_cast<std::int64_t>(seed);
      const auto expected = chosen(select(other, q, position, 0, other.size()));
      EXPECT_EQ(chosen(select(index, q, position, 0, index.size())), expected);
    }
  }
};

TEST(KeyCoder, SketchesAreThoseOfTheWorker) {
  Head head(5000);
  for (const bool refuses : {false, true}) {
    const Coder coder(refuses);
    SketchIndex own = head.make(nullptr), index = head.make(&coder.code);
    for (const std::int64_t size : {1100, 1101, 1643, 1700, 2900, 2950, 5000}) {
      head.show(own, size);
      head.show(index, size);
      head.expect_same(index, own);
    }
    EXPECT_EQ(coder.calls, 3);  // from the next whole block on
    EXPECT_EQ(coder.rows, 1100 + (2900 - 1728) + (5000 - 3008));
  }
}

TEST(KeyCoder, AnEmptyOneIsNotAsked) {
  Head head(2000);
  const cpu::KeyCoder none;
  SketchIndex own = head.make(nullptr), index = head.make(&none);
  head.show(own, 2000);
  head.show(index, 2000);
  head.expect_same(index, own);
}

TEST(KeyCoder, CalibrationsBesideTheStepsUseIt) {
  Head head(8000);
  const Coder coder;
  SketchIndex own = head.make(nullptr, &head.background), index = head.make(&coder.code, &head.background);
  for (std::int64_t size = 1216; size <= 8000; size += 64) {
    head.show(own, size);
    head.show(index, size);
  }
  EXPECT_EQ(index.map()->rows, 4 * 1216);
  EXPECT_EQ(coder.calls, 3) << "the first rows, those that the second map was fitted to, and those that came meanwhile";
  head.expect_same(index, own);
}

TEST(KeyCoder, WhatItThrowsChangesNothing) {
  Head head(3000);
  bool fails = false;
  const cpu::KeyCoder coder = [&fails](const cpu::KeyCoding&) -> bool {
    if (fails) fail(ErrorCode::device_lost, "lost");
    return false;
  };
  SketchIndex own = head.make(nullptr), index = head.make(&coder);
  head.show(own, 1300);
  head.show(index, 1300);
  fails = true;
  EXPECT_THROW(head.show(index, 3000), Error);
  head.expect_same(index, own);
}

struct TablesCase {
  cpu::HashPlanes planes;
  std::int64_t first, more;
};

class CodedTables : public ::testing::TestWithParam<TablesCase> {};
INSTANTIATE_TEST_SUITE_P(KeyCoder, CodedTables,
                         ::testing::Values(TablesCase{cpu::HashPlanes::hadamard, 1000, 1000},
                                           TablesCase{cpu::HashPlanes::gaussian, 2047, 513},
                                           TablesCase{cpu::HashPlanes::hadamard, TableSegment::kMaxRows - 700, 2000},
                                           TablesCase{cpu::HashPlanes::hadamard, 100, 2000}));

TEST_P(CodedTables, AreThoseOfTheWorker) {
  const TablesCase c = GetParam();
  IndexFixture fixture(32, 2);
  const LshParams params{5, 9, 2, 3, c.planes, 128};
  const auto hash = std::make_shared<const cpu::SimHash>(params.seed, 32, hash_params(params));
  const Coder coder, refusing(true);
  LshTables own(params, hash, fixture.rows.ledger), index(params, hash, fixture.rows.ledger, &coder.code),
      refused(params, hash, fixture.rows.ledger, &refusing.code);
  TablesScratch scratch, other;
  for (const std::int64_t count : {c.first, c.more, std::int64_t{3}}) {
    fixture.append(fixture.random_keys(count));
    for (LshTables* tables : {&own, &index, &refused}) tables->extend(fixture.kernels, fixture.rows.store, scratch);
    const LshTables fork = index.fork(index.size() - 1);
    const auto q = fixture.random_queries();
    fixture.scaled = testing::padded_queries(q, 32, fixture.shape.scale);
    fixture.query = {fixture.scaled.data(), &fixture.position, 1, 2};
    for (const LshTables* tables : std::initializer_list<const LshTables*>{&index, &refused, &fork}) {
      const SelectRequest request{fixture.kernels, fixture.rows.store, fixture.query, {}, 0, 0, tables->size()};
      cpu::Selection expected, found;
      own.select(request, scratch, expected);
      tables->select(request, other, found);
      EXPECT_FALSE(expected.rows.empty());
      EXPECT_EQ(found.rows, expected.rows);
      EXPECT_EQ(found.head_mask, expected.head_mask);
      for (const std::uint32_t r : expected.rows)
        ASSERT_EQ(found.weights->inverse_norms[r], expected.weights->inverse_norms[r]);
    }
    EXPECT_EQ(index.bytes(), own.bytes());
  }
  EXPECT_GT(coder.rows, c.more - 64);
  EXPECT_GT(refusing.calls, 0);
}

}  // namespace
}  // namespace tandem::lsh
