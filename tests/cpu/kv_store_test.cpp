#include "cpu/kv_store.h"

#include <cstring>

#include <gtest/gtest.h>

#include "runtime/base/error.h"
#include "tests/support/store_fixture.h"

namespace tandem::cpu {
namespace {

using testing::StoreFixture;

AttentionShape tiny_shape() { return resolved({1, 1, 1, 16, 16, 0.f, 0.f}); }

/// Rows whose first key element is their number.
std::vector<float> numbered(std::int64_t first, std::int64_t count) {
  std::vector<float> k(static_cast<std::size_t>(count * 16), 0.f);
  for (std::int64_t r = 0; r < count; ++r) k[static_cast<std::size_t>(r * 16)] = static_cast<float>(first + r);
  return k;
}

void append(StoreFixture& fixture, KvStore& store, std::int64_t first, std::int64_t count) {
  fixture.append(store, numbered(first, count), numbered(first, count));
}

float number_of(const KvStore& store, std::int64_t row) {
  float value;
  std::memcpy(&value, store.row(row), sizeof(value));
  return value;
}

void expect_numbered(const KvStore& store, const std::vector<std::pair<std::int64_t, std::int64_t>>& runs) {
  std::int64_t row = 0;
  for (const auto& [first, count] : runs) {
    for (std::int64_t i = 0; i < count; ++i, ++row)
      ASSERT_EQ(number_of(store, row), static_cast<float>(first + i)) << row;
  }
  EXPECT_EQ(store.size(), row);
}

TEST(KvStore, RowsComeBackInOrderWhateverTheChunks) {
  for (const std::int64_t chunk : {1, 63, 64, 65, 200}) {
    StoreFixture fixture(tiny_shape(), DType::f32);
    for (std::int64_t first = 0; first < 400; first += chunk) append(fixture, fixture.store, first, chunk);
    expect_numbered(fixture.store, {{0, (400 + chunk - 1) / chunk * chunk}});
  }
}

TEST(KvStore, ForksAtAnyLengthAreIndependent) {
  for (const std::int64_t size : {0, 1, 63, 64, 65, 127, 128, 150}) {
    StoreFixture fixture(tiny_shape(), DType::f32);
    append(fixture, fixture.store, 0, 150);
    KvStore copy = fixture.store.fork(size);
    append(fixture, copy, 1000, 100);
    append(fixture, fixture.store, 2000, 100);
    expect_numbered(copy, {{0, size}, {1000, 100}});
    expect_numbered(fixture.store, {{0, 150}, {2000, 100}});
  }
}

TEST(KvStore, StoresThatWereCutDoNotWriteIntoSharedPages) {
  StoreFixture fixture(tiny_shape(), DType::f32);
  append(fixture, fixture.store, 0, 200);
  KvStore copy = fixture.store.fork(200);
  copy = copy.fork(100);
  append(fixture, copy, 1000, 100);
  expect_numbered(copy, {{0, 100}, {1000, 100}});
  expect_numbered(fixture.store, {{0, 200}});
}

TEST(KvStore, FullPagesAreShared) {
  StoreFixture fixture(tiny_shape(), DType::f32);
  append(fixture, fixture.store, 0, 130);
  const KvStore copy = fixture.store.fork(130);
  EXPECT_EQ(copy.row(0), fixture.store.row(0));
  EXPECT_EQ(copy.row(127), fixture.store.row(127));
  EXPECT_NE(copy.row(128), fixture.store.row(128));
}

TEST(KvStore, ARefusedReservationChangesNothing) {
  StoreFixture fixture(tiny_shape(), DType::f32, std::int64_t{5} << 20);  // the pool's first slab and little more
  append(fixture, fixture.store, 0, 100);
  const std::int64_t used = fixture.ledger.used_bytes();
  EXPECT_THROW(fixture.store.reserve(std::int64_t{1} << 20), Error);
  EXPECT_EQ(fixture.ledger.used_bytes(), used);
  expect_numbered(fixture.store, {{0, 100}});
  append(fixture, fixture.store, 100, 100);
  expect_numbered(fixture.store, {{0, 200}});
}

TEST(KvStore, PagesOutliveNobodyAndAreReused) {
  StoreFixture fixture(tiny_shape(), DType::f32);
  append(fixture, fixture.store, 0, 10000);
  const std::int64_t used = fixture.ledger.used_bytes();
  for (int round = 0; round < 5; ++round) {
    fixture.store = fixture.store.fork(0);
    append(fixture, fixture.store, 0, 10000);
  }
  EXPECT_EQ(fixture.ledger.used_bytes(), used);
}

TEST(RowLayout, PadsToVectorsAndCacheLines) {
  for (const int dim : {1, 16, 17, 64, 72, 80, 128, 256}) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      const RowLayout layout = RowLayout::of(resolved({1, 1, 1, dim, dim, 0.f, 0.f}), dtype);
      EXPECT_EQ(layout.padded_k % kDimPadding, 0);
      EXPECT_GE(layout.padded_k, dim);
      EXPECT_EQ(layout.row_bytes % 64, 0);
      EXPECT_GE(layout.row_bytes, layout.v_offset + layout.padded_v * static_cast<std::int64_t>(bytes_of(dtype)));
      EXPECT_EQ(layout.kv_bytes, 2 * dim * static_cast<std::int64_t>(bytes_of(dtype)));
    }
  }
  EXPECT_EQ(RowLayout::of(resolved({1, 1, 1, 128, 128, 0.f, 0.f}), DType::bf16).row_bytes, 512);
}

}  // namespace
}  // namespace tandem::cpu
