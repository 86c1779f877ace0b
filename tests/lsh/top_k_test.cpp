#include "lsh/top_k.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <faiss/IndexFlat.h>
#include <gtest/gtest.h>

#include "tests/support/index_fixture.h"

namespace tandem::lsh {
namespace {

using testing::IndexFixture;

/// Rows that head `head` selected, ascending.
std::vector<std::int64_t> rows_of(const cpu::Selection& selection, int head) {
  std::vector<std::int64_t> rows;
  for (std::size_t i = 0; i < selection.rows.size(); ++i) {
    if ((selection.head_mask[i] >> head & 1) != 0) rows.push_back(selection.rows[i]);
  }
  return rows;
}

class TopKShapes : public ::testing::TestWithParam<std::tuple<int /*head_dim*/, int /*group*/>> {};

INSTANTIATE_TEST_SUITE_P(TopK, TopKShapes,
                         ::testing::Combine(::testing::Values(64, 80, 96, 128, 256), ::testing::Values(1, 2, 4, 8)));

TEST_P(TopKShapes, AgreesWithFaissFlatInnerProduct) {
  const auto [head_dim, group] = GetParam();
  IndexFixture fixture(head_dim, group);
  fixture.append(fixture.random_keys(700));
  const auto q = fixture.random_queries();
  const Selector selector(TopKParams{0.05}, head_dim);
  const auto& selection = fixture.select(fixture.indexed(selector), q);
  faiss::IndexFlatIP flat(head_dim);
  flat.add(700, fixture.keys.data());
  const std::int64_t k = top_k_count({0.05}, 700);
  EXPECT_EQ(k, 35);
  std::vector<float> scores(static_cast<std::size_t>(group * k));
  std::vector<faiss::Index::idx_t> ids(static_cast<std::size_t>(group * k));
  flat.search(group, q.data(), k, scores.data(), ids.data());
  for (int h = 0; h < group; ++h) {
    std::vector<std::int64_t> expected(ids.begin() + h * k, ids.begin() + (h + 1) * k);
    std::sort(expected.begin(), expected.end());
    EXPECT_EQ(rows_of(selection, h), expected);
  }
  EXPECT_TRUE(std::is_sorted(selection.rows.begin(), selection.rows.end()));
}

TEST(TopK, TakesAtLeastOneRowAndAtMostAll) {
  EXPECT_EQ(top_k_count({1e-9}, 1000), 1);
  EXPECT_EQ(top_k_count({1.0}, 1000), 1000);
  EXPECT_EQ(top_k_count({0.5}, 3), 2);
  EXPECT_EQ(top_k_count({0.5}, 0), 0);
  for (int percent = 1; percent <= 100; ++percent) EXPECT_EQ(top_k_count({percent / 100.0}, 100), percent);
}

TEST(TopK, TiesGoToTheLowestRow) {
  IndexFixture fixture(64, 2);
  fixture.append(std::vector<float>(200 * 64, 0.25f));
  const Selector selector(TopKParams{0.1}, 64);
  const auto& selection = fixture.select(fixture.indexed(selector), fixture.random_queries());
  ASSERT_EQ(selection.rows.size(), 20u);
  for (std::uint32_t r = 0; r < 20; ++r) EXPECT_EQ(selection.rows[r], r);
}

TEST(TopK, OnlyVisibleRowsCompete) {
  IndexFixture fixture(64, 1);
  fixture.append(fixture.random_keys(500));
  const Selector selector(TopKParams{1.0}, 64);
  const auto& selection = fixture.select(fixture.indexed(selector), fixture.random_queries(), 130, 257);
  ASSERT_EQ(selection.rows.size(), 127u);
  EXPECT_EQ(selection.rows.front(), 130u);
  EXPECT_EQ(selection.rows.back(), 256u);
  EXPECT_TRUE(fixture.select(fixture.indexed(selector), fixture.random_queries(), 5, 5).rows.empty());
}

TEST(TopK, RanksByTheLogitThatAttentionUses) {
  IndexFixture fixture(64, 1);
  fixture.append(fixture.random_keys(500));
  const auto q = fixture.random_queries();
  const float slope = 0.05f;
  cpu::LogitRule logits;
  logits.alibi = &slope;
  logits.softcap = 1.5f;
  const Selector selector(TopKParams{0.02}, 64);
  const auto selected = rows_of(fixture.select(fixture.indexed(selector), q, 0, std::nullopt, logits), 0);
  std::vector<std::pair<double, std::int64_t>> order;
  for (std::int64_t r = 0; r < 500; ++r) {
    double dot = 0;
    for (int d = 0; d < 64; ++d)
      dot += static_cast<double>(q[static_cast<std::size_t>(d)]) * fixture.keys[static_cast<std::size_t>(r * 64 + d)];
    order.emplace_back(-(1.5 * std::tanh(dot / 8 / 1.5) + 0.05 * static_cast<double>(r - 500)), r);
  }
  std::sort(order.begin(), order.end());
  std::vector<std::int64_t> expected;
  for (int i = 0; i < 10; ++i) expected.push_back(order[static_cast<std::size_t>(i)].second);
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(selected, expected);
}

}  // namespace
}  // namespace tandem::lsh
