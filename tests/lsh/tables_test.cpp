// LshTables against brute force: what is found, insertion, forks, odd keys, bytes.
#include "lsh/tables.h"

#include <cmath>

#include <gtest/gtest.h>

#include "runtime/base/error.h"
#include "tests/support/index_fixture.h"

namespace tandem::lsh {
namespace {

using testing::IndexFixture;

/// Codes (count, tables) of centred keys or of queries.
std::vector<std::uint16_t> codes_of(const cpu::SimHash& hash, const std::vector<float>& x, int dim,
                                    const std::vector<float>& mean) {
  auto padded = testing::padded_queries(x, dim, 1.f);
  for (std::size_t i = 0; !mean.empty() && i < padded.size(); ++i) padded[i] -= mean[i % mean.size()];
  std::vector<std::uint16_t> codes(x.size() / static_cast<std::size_t>(dim) *
                                   static_cast<std::size_t>(hash.num_tables()));
  cpu::AlignedVector<std::uint64_t> bits;
  hash.encode(cpu::kernels_for(cpu::choose_isa(std::nullopt)), padded.data(), static_cast<std::int64_t>(x.size()) / dim,
              codes.data(), bits);
  return codes;
}

class FoundRows : public ::testing::TestWithParam<std::tuple<int /*K*/, int /*L*/, int /*m*/, int /*group*/>> {};

INSTANTIATE_TEST_SUITE_P(LshTables, FoundRows,
                         ::testing::Combine(::testing::Values(1, 4, 8, 12), ::testing::Values(2, 75, 300),
                                            ::testing::Values(1, 2), ::testing::Values(1, 4, 8)));

TEST_P(FoundRows, AreThoseWithEnoughCollisionsPerHead) {
  const auto [bits, tables, m, group] = GetParam();
  IndexFixture fixture(64, group);
  const LshParams params{bits, tables, m, 17};
  const auto hash = std::make_shared<const cpu::SimHash>(params.seed, 64, bits, tables);
  LshTables index(params, hash, fixture.rows.ledger);
  TablesScratch scratch;
  for (const std::int64_t count : {300, 64, 64, 300, 64}) {  // sorted, tail, tail, sorted again, tail
    fixture.append(fixture.random_keys(count));
    index.extend(fixture.kernels, fixture.rows.store, scratch);
  }
  const auto q = fixture.random_queries();
  fixture.scaled = testing::padded_queries(q, 64, fixture.shape.scale);
  fixture.query = {fixture.scaled.data(), &fixture.position, 1, group};
  const auto key_codes = codes_of(*hash, fixture.keys, 64, index.mean());
  const auto query_codes = codes_of(*hash, q, 64, {});
  for (const auto& [begin, end] : {std::pair<std::int64_t, std::int64_t>{0, 792}, {100, 700}, {310, 311}, {20, 20}}) {
    cpu::Selection selection;
    index.select({fixture.kernels, fixture.rows.store, fixture.query, {}, 0, begin, end}, scratch, selection);
    std::size_t next = 0;
    for (std::int64_t r = begin; r < end; ++r) {
      std::uint64_t expected = 0;
      for (int h = 0; h < group; ++h) {
        int collisions = 0;
        for (int t = 0; t < tables; ++t) {
          collisions += key_codes[static_cast<std::size_t>(r * tables + t)] ==
                                query_codes[static_cast<std::size_t>(h * tables + t)]
                            ? 1
                            : 0;
        }
        if (collisions >= m) expected |= std::uint64_t{1} << h;
      }
      if (expected == 0) continue;
      ASSERT_LT(next, selection.rows.size());
      EXPECT_EQ(selection.rows[next], r);
      EXPECT_EQ(selection.head_mask[next], expected);
      ++next;
    }
    EXPECT_EQ(next, selection.rows.size());
  }
}

TEST(LshTables, OneByOneEqualsBulkForAFixedMean) {
  IndexFixture fixture(64, 2);
  const LshParams params{6, 60, 2, 3};
  const auto hash = std::make_shared<const cpu::SimHash>(params.seed, 64, 6, 60);
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
  // ids and offsets of 4 bytes, one norm per row, the mean
  EXPECT_EQ(fixture.indexed(selector).bytes(), 5000 * 150 * 4 + 150 * 1025 * 4 + 5000 * 4 + 64 * 4);
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
