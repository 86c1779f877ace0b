// LshTables against brute force: what is found, insertion, forks, odd keys, bytes.
#include "lsh/tables.h"

#include <cmath>

#include <gtest/gtest.h>

#include "runtime/base/error.h"
#include "tests/lsh/naive_tables.h"

namespace tandem::lsh {
namespace {

using testing::IndexFixture;

class FoundRows
    : public ::testing::TestWithParam<std::tuple<int /*K*/, int /*L*/, int /*m*/, int /*group*/, cpu::HashPlanes>> {};

INSTANTIATE_TEST_SUITE_P(LshTables, FoundRows,
                         ::testing::Combine(::testing::Values(1, 4, 8, 12), ::testing::Values(2, 75, 300),
                                            ::testing::Values(1, 2), ::testing::Values(1, 4, 9),
                                            ::testing::Values(cpu::HashPlanes::hadamard)));
INSTANTIATE_TEST_SUITE_P(LshTablesGaussian, FoundRows,
                         ::testing::Combine(::testing::Values(6), ::testing::Values(150), ::testing::Values(1, 2),
                                            ::testing::Values(4), ::testing::Values(cpu::HashPlanes::gaussian)));

TEST_P(FoundRows, AreThoseWithEnoughCollisionsPerHead) {
  const auto [bits, tables, m, group, planes] = GetParam();
  IndexFixture fixture(64, group);
  const LshParams params{bits, tables, m, 17, planes};
  const auto hash = std::make_shared<const cpu::SimHash>(params.seed, 64, hash_params(params));
  LshTables index(params, hash, fixture.rows.ledger);
  TablesScratch scratch;
  for (const std::int64_t count : {300, 64, 64, 300, 64}) {  // sorted, tail, tail, sorted again, tail
    fixture.append(fixture.random_keys(count));
    index.extend(fixture.kernels, fixture.rows.store, scratch);
  }
  const auto q = fixture.random_queries();
  fixture.scaled = testing::padded_queries(q, 64, fixture.shape.scale);
  fixture.query = {fixture.scaled.data(), &fixture.position, 1, group};
  const auto masks = testing::naive_masks(testing::codes_of(*hash, fixture.keys, 64, index.mean()),
                                          testing::codes_of(*hash, q, 64, {}), tables, m);
  for (const auto& [begin, end] : {std::pair<std::int64_t, std::int64_t>{0, 792}, {100, 700}, {310, 311}, {20, 20}}) {
    cpu::Selection selection;
    index.select({fixture.kernels, fixture.rows.store, fixture.query, {}, 0, begin, end}, scratch, selection);
    testing::expect_selection(selection, masks, begin, end);
  }
}

TEST(LshTables, OneByOneEqualsBulkForAFixedMean) {
  IndexFixture fixture(64, 2);
  const LshParams params{6, 60, 2, 3};
  const auto hash = std::make_shared<const cpu::SimHash>(params.seed, 64, hash_params(params));
  LshTables bulk(params, hash, fixture.rows.ledger), single(params, hash, fixture.rows.ledger);
  const std::vector<float> mean(64, 0.4f);
  bulk.fix_mean(mean);
  single.fix_mean(mean);
  TablesScratch scratch, bulk_scratch;
  for (int i = 0; i < 900; ++i) {
    fixture.append(fixture.random_keys(1));
    single.extend(fixture.kernels, fixture.rows.store, scratch);
  }
  bulk.extend(fixture.kernels, fixture.rows.store, bulk_scratch);
  EXPECT_EQ(single.size(), 900);
  const auto q = fixture.random_queries();
  fixture.scaled = testing::padded_queries(q, 64, fixture.shape.scale);
  fixture.query = {fixture.scaled.data(), &fixture.position, 1, 2};
  cpu::Selection a, b;
  const SelectRequest request{fixture.kernels, fixture.rows.store, fixture.query, {}, 0, 0, 900};
  single.select(request, scratch, a);
  bulk.select(request, bulk_scratch, b);
  EXPECT_FALSE(a.rows.empty());
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.head_mask, b.head_mask);
  for (const std::uint32_t r : a.rows) EXPECT_EQ(a.weights->inverse_norms[r], b.weights->inverse_norms[r]);
}

TEST(LshTables, ForksAtAnyLengthFindTheSameRows) {
  IndexFixture fixture(64, 2);
  const Selector selector(LshParams{5, 50, 2, 3}, 64);
  HeadIndex index = fixture.empty(selector);
  for (const std::int64_t count : {400, 64, 64}) {
    fixture.append(fixture.random_keys(count));
    index.extend(fixture.kernels, fixture.rows.store, fixture.observed, fixture.scratch);
  }
  const auto q = fixture.random_queries();
  for (const std::int64_t size : {0, 1, 399, 400, 401, 528}) {
    const HeadIndex fork = index.fork(size);
    const auto expected = fixture.select(index, q, 0, size);
    const auto found = fixture.select(fork, q, 0, size);
    EXPECT_EQ(found.rows, expected.rows) << size;
    EXPECT_EQ(found.head_mask, expected.head_mask) << size;
  }
}

TEST(LshTables, OddKeysAndQueriesGiveFiniteWeights) {
  IndexFixture fixture(64, 4);
  fixture.append(std::vector<float>(300 * 64, 3.f));  // all keys equal their mean
  const Selector selector(LshParams{4, 30, 2, 3}, 64);
  auto index = fixture.indexed(selector);
  auto q = fixture.random_queries();
  std::fill_n(q.begin(), 64, 0.f);  // head 0: a zero query
  const auto& selection = fixture.select(index, q);
  ASSERT_TRUE(selection.weights.has_value());
  for (const std::uint32_t r : selection.rows) EXPECT_EQ(selection.weights->inverse_norms[r], 0.f);
  EXPECT_EQ(selection.weights->inverse_query_norms[0], 0.f);
}

TEST(LshTables, AKeyParallelToTheQueryIsFoundForCertain) {
  IndexFixture fixture(64, 1);
  auto keys = fixture.random_keys(400, 0.0);
  fixture.append(keys);
  const Selector selector(LshParams{12, 10, 2, 3}, 64);
  auto index = fixture.indexed(selector);
  // Centring moves the key by the small mean, so the query is the centred key itself.
  std::vector<float> mean(64, 0.f);
  for (std::size_t i = 0; i < keys.size(); ++i) mean[i % 64] += keys[i] / 400.f;
  std::vector<float> q(64);
  for (std::size_t d = 0; d < 64; ++d) q[d] = 5.f * (keys[123 * 64 + d] - mean[d]);
  const auto& selection = fixture.select(index, q);
  EXPECT_TRUE(std::find(selection.rows.begin(), selection.rows.end(), 123u) != selection.rows.end());
}

TEST(LshTables, BytesAreTheArithmeticOfTheFormat) {
  IndexFixture fixture(64, 1);
  fixture.append(fixture.random_keys(5000));
  const Selector selector(LshParams{10, 150, 2, 3}, 64);
  numa::MemoryLedger ledger(std::int64_t{1} << 30);
  HeadIndex index(selector, {&ledger, &fixture.pools, 0}, 0);
  index.extend(fixture.kernels, fixture.rows.store, fixture.observed, fixture.scratch);
  // ids and offsets of 2 bytes, one norm per row with room for 1/32 more, the mean
  EXPECT_EQ(index.bytes(), 5000 * 150 * 2 + 150 * 1025 * 2 + (5000 + 5000 / 32) * 4 + 64 * 4);
  fixture.append(fixture.random_keys(65));
  index.extend(fixture.kernels, fixture.rows.store, fixture.observed, fixture.scratch);
  // the tail: codes of 2 bytes in blocks of 64
  EXPECT_EQ(index.bytes(), (5000 + 128) * 150 * 2 + 150 * 1025 * 2 + (5000 + 5000 / 32) * 4 + 64 * 4);
  EXPECT_EQ(ledger.used_bytes(), index.bytes());
}

/// (10, 150) takes about half of what MagicPIG's tables take: 638 bytes per row at 32,768 rows.
TEST(LshTables, TakeHalfOfMagicPigsBytes) {
  for (const auto& [rows, most] : {std::pair<std::int64_t, double>{8192, 345.0}, {32768, 315.0}, {33792, 325.0}}) {
    IndexFixture fixture(16, 1);
    fixture.append(fixture.random_keys(rows));
    const Selector selector(LshParams{10, 150, 2, 3}, 16);
    EXPECT_LT(static_cast<double>(fixture.indexed(selector).bytes()), most * static_cast<double>(rows)) << rows;
  }
}

TEST(LshTables, ARefusedExtensionChangesNothing) {
  IndexFixture fixture(64, 1);
  fixture.append(fixture.random_keys(2000));
  const Selector selector(LshParams{8, 100, 2, 3}, 64);
  numa::MemoryLedger small(100 * 1000);
  HeadIndex index(selector, {&small, &fixture.pools, 0}, 0);
  try {
    index.extend(fixture.kernels, fixture.rows.store, fixture.observed, fixture.scratch);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
  }
  EXPECT_EQ(index.bytes(), 0);
  EXPECT_TRUE(index.lacks_rows_of(fixture.rows.store, fixture.observed));
}

}  // namespace
}  // namespace tandem::lsh
