// The sketch index as a structure: when it exists, that growing, forking and cutting do not change what it selects.
#include <gtest/gtest.h>

#include "runtime/base/error.h"
#include "tests/support/sketch_fixture.h"

namespace tandem::lsh {
namespace {

using testing::Chosen;
using testing::chosen;
using testing::SketchFixture;

TEST(SketchIndex, IsDenseUntilThereAreRowsAndQueries) {
  SketchFixture fixture(64, 2, 1.0);
  const auto q = fixture.make_queries();
  SketchIndex index({}, {&fixture.rows.ledger, &fixture.pools, 0}, 0);
  fixture.append(SketchIndex::kFewestRows - 1);
  fixture.observe(32);
  EXPECT_FALSE(index.lacks_rows_of(fixture.rows.store, fixture.observed));
  EXPECT_EQ(fixture.select(index, q, 5000).rows.size(), 1023u);
  EXPECT_TRUE(fixture.selection.sampled.rows.empty());
  fixture.append(1);
  EXPECT_TRUE(index.lacks_rows_of(fixture.rows.store, fixture.observed));
  QueryLog few(2, fixture.rows.layout.padded_k, fixture.rows.ledger);
  EXPECT_FALSE(index.lacks_rows_of(fixture.rows.store, few));
  fixture.extend(index);
  EXPECT_EQ(index.size(), 1024);
  EXPECT_FALSE(index.lacks_rows_of(fixture.rows.store, fixture.observed));
  const auto& selection = fixture.select(index, q, 5000);
  EXPECT_LT(selection.rows.size() + selection.sampled.rows.size(), 200u);
}

TEST(SketchIndex, OneByOneEqualsInBulk) {
  SketchFixture fixture(96, 4, 1.5);
  fixture.append(1500);
  fixture.observe(20);
  SketchIndex bulk = fixture.indexed({.bits_per_dim = 2});
  SketchIndex single = bulk.fork(1500);
  for (const int more : {1, 3, 60, 64, 500, 1, 900}) {
    fixture.append(more);
    fixture.extend(single);
  }
  fixture.extend(bulk);
  ASSERT_EQ(bulk.size(), single.size());
  for (int t = 0; t < 10; ++t) {
    const auto q = fixture.make_queries();
    const Chosen expected = chosen(fixture.select(bulk, q, 9000 + t));
    EXPECT_EQ(chosen(fixture.select(single, q, 9000 + t)), expected);
  }
}

TEST(SketchIndex, ForksAreWhatNeverLongerIndexesWouldBe) {
  SketchFixture fixture(64, 2, 1.0);
  fixture.append(1100);
  fixture.observe(40);
  SketchIndex index = fixture.indexed({});
  const auto q = fixture.make_queries();
  for (const std::int64_t size : {1100, 2047, 2048, 2049, 4500, 6144}) {
    if (size > fixture.rows.store.size()) fixture.append(size - fixture.rows.store.size());
    fixture.extend(index);
    const Chosen expected = chosen(fixture.select(index, q, 7000));
    SketchIndex longer = index.fork(size);
    for (const std::int64_t cut : {std::int64_t{1100}, std::int64_t{1101}, size / 2, size - 1, size}) {
      if (cut < 1100 || cut > size) continue;
      const SketchIndex shorter = longer.fork(cut);
      EXPECT_EQ(shorter.size(), cut);
      const Chosen of_cut = chosen(fixture.select(shorter, q, 7000, 0, cut));
      EXPECT_EQ(chosen(fixture.select(index, q, 7000, 0, cut)), of_cut);
    }
    EXPECT_EQ(chosen(fixture.select(index, q, 7000)), expected);  // forks left it alone
  }
}

TEST(SketchIndex, AForkThatGrowsLeavesItsSourceAlone) {
  SketchFixture fixture(64, 2, 1.0);
  fixture.append(1500);
  fixture.observe(40);
  const SketchIndex source = fixture.indexed({});
  const auto q = fixture.make_queries();
  const Chosen before = chosen(fixture.select(source, q, 1));
  SketchIndex grown = source.fork(1500);
  fixture.append(700);
  fixture.extend(grown);
  EXPECT_EQ(chosen(fixture.select(source, q, 1, 0, 1500)), before);
}

TEST(SketchIndex, StartsAnewAfterACutToNothing) {
  SketchFixture fixture(64, 2, 1.0);
  fixture.append(1200);
  fixture.observe(40);
  const SketchIndex index = fixture.indexed({});
  const SketchIndex empty = index.fork(0);
  EXPECT_EQ(empty.size(), 0);
  EXPECT_EQ(empty.map(), nullptr);
  EXPECT_EQ(empty.bytes(), 0);
}

TEST(SketchIndex, CountsItsMemoryAndChangesNothingWhenRefused) {
  SketchFixture fixture(128, 4, 1.0);
  fixture.append(8192);
  fixture.observe(32);
  const std::int64_t before = fixture.rows.ledger.used_bytes();
  {
    const SketchIndex index = fixture.indexed({.bits_per_dim = 1});
    EXPECT_EQ(index.bytes(), 8192 * 18 + index.map()->bytes());
    EXPECT_GE(fixture.rows.ledger.used_bytes() - before, index.bytes());
  }
  numa::MemoryLedger small(200 << 10);
  cpu::PagePools pools(fixture.rows.topology, small);
  SketchIndex index({}, {&small, &pools, 0}, 0);
  EXPECT_THROW(fixture.extend(index), Error);
  EXPECT_EQ(index.size(), 0);
  EXPECT_EQ(index.map(), nullptr);
  EXPECT_EQ(small.used_bytes(), 0);
}

TEST(SketchIndex, SelectsOnlyWhatIsVisible) {
  SketchFixture fixture(64, 3, 2.0);
  fixture.append(6000);
  fixture.observe(40);
  const SketchIndex index = fixture.indexed({});
  const auto q = fixture.make_queries();
  for (const auto& [begin, end] : {std::pair<std::int64_t, std::int64_t>{0, 6000},
                                   {1, 5999},
                                   {700, 1500},
                                   {2047, 4097},
                                   {5000, 5001},
                                   {5000, 5000},
                                   {100, 500}}) {
    const auto& selection = fixture.select(index, q, 6000, begin, end);
    std::vector<std::uint32_t> all = selection.rows;
    all.insert(all.end(), selection.sampled.rows.begin(), selection.sampled.rows.end());
    std::sort(all.begin(), all.end());
    EXPECT_TRUE(std::adjacent_find(all.begin(), all.end()) == all.end());
    EXPECT_TRUE(all.empty() || (all.front() >= begin && all.back() < end));
    EXPECT_TRUE(end - begin > 256 || static_cast<std::int64_t>(all.size()) == end - begin);
  }
}

TEST(SketchIndex, FewQueriesAndConstantKeysStillGiveAnAnswer) {
  for (const bool constant_keys : {false, true}) {
    SketchFixture fixture(128, 1, 1.0);
    if (constant_keys) {
      std::vector<float> v(static_cast<std::size_t>(2000 * 128));
      for (float& x : v) x = static_cast<float>(fixture.random.normal());
      fixture.append(std::vector<float>(v.size(), 3.f), v);
    } else {
      fixture.append(2000);
    }
    fixture.observe(64);  // half as many as there are dimensions
    const SketchIndex index = fixture.indexed({.budget = 0.2});
    const auto q = fixture.make_queries();
    fixture.select(index, q, 2000);
    const auto estimate = fixture.attend(q);
    const auto expected = fixture.exact(q, 0);
    EXPECT_NEAR(estimate.lse[0], expected.lse, 0.3);
    EXPECT_LT(testing::relative_error(estimate.out.data(), expected.out), 0.6);
  }
}

TEST(SketchIndex, ExtremeKeysAndLogitsNeverGiveNan) {
  struct Case {
    double key_mean, key_scale, spread;
  };
  for (const Case& c : {Case{1e4, 1, 1}, Case{0, 1e-12, 1}, Case{0, 1e6, 1}, Case{0, 1, 500}, Case{100, 1, 0}}) {
    SketchFixture fixture(64, 2, 1.0, 3);
    const std::int64_t n = 3000;
    std::vector<float> k(static_cast<std::size_t>(n * 64)), v(k.size());
    for (std::size_t i = 0; i < k.size(); ++i) {
      k[i] = static_cast<float>(c.key_mean + c.key_scale * fixture.random.normal());
      v[i] = static_cast<float>(fixture.random.normal());
      if (i / 64 % 100 == 7) k[i] = 0.f;  // zero keys among them
    }
    fixture.append(k, v);
    fixture.spread = c.spread / std::max(c.key_scale, 1e-9);
    fixture.observe(40);
    const SketchIndex index = fixture.indexed({.budget = 0.1});
    for (int t = 0; t < 5; ++t) {
      const auto q = fixture.make_queries();
      const auto& selection = fixture.select(index, q, n + t);
      EXPECT_GT(selection.rows.size() + selection.sampled.rows.size(), 0u);
      for (const float pi : selection.sampled.inclusion) EXPECT_TRUE(pi > 0 && pi < 1);
      const auto estimate = fixture.attend(q);
      for (const float x : estimate.out) EXPECT_TRUE(std::isfinite(x));
      for (const float x : estimate.lse) EXPECT_TRUE(std::isfinite(x));
      for (const float x : estimate.square) EXPECT_TRUE(std::isfinite(x));
      if (c.spread == 500) {  // one key has it all: it must be among the certain ones
        for (int h = 0; h < 2; ++h)
          EXPECT_NEAR(estimate.lse[static_cast<std::size_t>(h)], fixture.exact(q, h).lse, 1.0);
      }
    }
  }
}

TEST(SketchParams, RefusesWhatItCannotDo) {
  const auto message = [](const SketchParams& params) {
    try {
      validate(params);
      return std::string();
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  EXPECT_EQ(message({}), "");
  EXPECT_NE(message({.budget = 0}).find("budget is 0"), std::string::npos);
  EXPECT_NE(message({.budget = 1.5}).find("budget is 1.5"), std::string::npos);
  EXPECT_NE(message({.budget = std::nan("")}).find("budget"), std::string::npos);
  EXPECT_NE(message({.error = -0.1}).find("error is -0.1"), std::string::npos);
  EXPECT_NE(message({.error = 1}).find("error is 1"), std::string::npos);
  EXPECT_NE(message({.bits_per_dim = 3}).find("sketch_bits is 3"), std::string::npos);
  EXPECT_NE(message({.error = 0.1, .top_k = true}).find("top-k"), std::string::npos);
  EXPECT_EQ(drawn_rows(1e-9, 100000), kFewestDrawn);
  EXPECT_EQ(drawn_rows(0.5, 10), 10);
  EXPECT_EQ(drawn_rows(1.0, 1000), 1000);
}

}  // namespace
}  // namespace tandem::lsh
