// Attention over rows that an engine keeps: exact whatever the engine's mask, and selecting as a sequence does that
// owns its rows, whatever the engine does with them.
#include "tests/support/borrowed_rows.h"

#include <algorithm>
#include <random>
#include <tuple>

#include <gtest/gtest.h>

namespace tandem::testing {
namespace {

constexpr std::int64_t kCells = 6000;
constexpr std::int64_t kPrompt = 4000;

Config config_with(const lsh::SelectorParams& selector) {
  Config config;
  config.shape = resolved({2, 4, 2, 32, 48, 0.f, 0.f});
  config.shape.head_dim_v = 32;  // equal strides
  config.window = {4, 64, DType::f32};
  config.selector = selector;
  config.never_slower = false;
  config.num_workers = 2;
  return config;
}

lsh::SketchParams sketch(double budget) {
  lsh::SketchParams params;
  params.budget = budget;
  return params;
}

/// Cells in runs of 1 to 100, in an order that has nothing to do with memory.
std::vector<std::int64_t> scattered(std::int64_t cells, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::vector<std::int64_t>> runs;
  for (std::int64_t next = 0; next < cells;) {
    const auto count = std::min<std::int64_t>(cells - next, 1 + static_cast<std::int64_t>(random() % 100));
    runs.push_back(counting(count, next));
    next += count;
  }
  std::shuffle(runs.begin(), runs.end(), random);
  std::vector<std::int64_t> places;
  for (const auto& run : runs) places.insert(places.end(), run.begin(), run.end());
  return places;
}

/// A conversation in an engine's cells, and the runtime that attends to them.
struct Engine {
  explicit Engine(const Config& config, std::int64_t probes = 4)
      : runtime(config),
        source(config.shape, 5, DType::f32, 1.2),
        rows(config.shape, kCells),
        pool(runtime.bind_pool(0, rows.view(), probes)) {}

  TokenSource::Tokens tokens(std::int64_t count) {
    auto tokens = source.tokens(count);
    for (float& x : tokens.v) x += 0.5f;  // else their mean over many rows is so short that every error is large
    return tokens;
  }
  /// New tokens at the end of `list`, in cells that the engine has free; reported unless told otherwise.
  void write(std::vector<std::int64_t>& list, const std::vector<std::int64_t>& cells, bool report = true) {
    rows.write(tokens(static_cast<std::int64_t>(cells.size())), cells);
    list.insert(list.end(), cells.begin(), cells.end());
    if (report) runtime.rows_written(pool, cells);
  }
  /// One decode step over `list`; the error of the worst head.
  double step(const std::vector<std::int64_t>& list) {
    const auto q = source.queries(1);
    last = attend_rows(runtime, pool, {list}, q);
    return worst_error(last, q, 1, rows.sequence(list), runtime.config().shape).out;
  }
  /// Steps until a sketch has been calibrated: 64 query vectors of a group of two.
  void warm_up(std::vector<std::int64_t>& list) {
    for (int i = 0; i < 33; ++i) {  // the first of which has no list yet
      const auto next = static_cast<std::int64_t>(list.size());
      write(list, {next});
      attend_rows(runtime, pool, {list}, source.queries(1));
    }
  }

  Runtime runtime;
  TokenSource source;
  EngineRows rows;
  std::uint64_t pool;
  Attended last;
};

TEST(BorrowedRows, AreAttendedExactlyInAnyOrder) {
  Engine engine(config_with(lsh::SelectAllParams{}));
  const auto places = scattered(kCells, 3);
  engine.rows.write(engine.tokens(kCells), places);
  for (const std::int64_t count : {1, 3, 64, 65, 4096, 4097, 6000}) {
    const std::vector<std::int64_t> list(places.begin(), places.begin() + count);
    EXPECT_LT(engine.step(list), 2e-6) << count;
    EXPECT_EQ(engine.last.stats.keys_attended, count * 4);
    EXPECT_EQ(engine.last.stats.out_error, 0);
  }
  engine.step({});  // nothing to see
  for (const float x : engine.last.out) EXPECT_EQ(x, 0.f);
  for (const float x : engine.last.lse) EXPECT_EQ(x, -std::numeric_limits<float>::infinity());
  EXPECT_EQ(engine.runtime.query_pool(engine.pool).num_lists, 0);
}

TEST(BorrowedRows, SelectWhatASequenceThatOwnsThemSelects) {
  const Config config = config_with(sketch(0.05));
  Engine engine(config);
  Runtime owning(config);
  const std::uint64_t sequence = owning.create_sequence();
  const auto places = scattered(kCells, 4);
  auto prompt = engine.tokens(kPrompt);
  std::vector<std::int64_t> list(places.begin(), places.begin() + kPrompt);
  engine.rows.write(prompt, list);
  append(owning, sequence, prompt.k, prompt.v);
  attend_rows(engine.runtime, engine.pool, {list}, engine.source.queries(1));  // comes for the first time
  std::int64_t gathered = 0;
  for (int i = 0; i < 200; ++i) {
    const auto token = engine.tokens(1);
    const std::int64_t place = places[list.size()];
    engine.rows.write(token, {place});
    engine.runtime.rows_written(engine.pool, std::vector<std::int64_t>{place});
    list.push_back(place);
    append(owning, sequence, token.k, token.v);
    const auto q = engine.source.queries(1);
    const Attended own = attend(owning, sequence, 1, q);
    const Attended borrowed = attend_rows(engine.runtime, engine.pool, {list}, q);
    if (i < 31) continue;  // no sketch yet: which rows are called the window's does not matter
    ASSERT_EQ(borrowed.stats.rows_gathered, own.stats.rows_gathered) << i;
    ASSERT_EQ(borrowed.stats.rows_host, own.stats.rows_host) << i;
    ASSERT_EQ(borrowed.stats.rows_window, own.stats.rows_window) << i;
    ASSERT_NEAR(borrowed.stats.out_error, own.stats.out_error, 1e-4 * own.stats.out_error) << i;
    for (std::size_t j = 0; j < own.out.size(); ++j) ASSERT_NEAR(borrowed.out[j], own.out[j], 2e-5) << i;
    for (std::size_t j = 0; j < own.lse.size(); ++j) ASSERT_NEAR(borrowed.lse[j], own.lse[j], 2e-5) << i;
    gathered += borrowed.stats.rows_gathered;
  }
  EXPECT_LT(gathered, 169 * 2 * kPrompt / 10);  // it did select
  EXPECT_EQ(engine.runtime.query_pool(engine.pool).num_lists, 1);
  EXPECT_EQ(engine.runtime.query_pool(engine.pool).rows_reindexed, 0);
}

TEST(BorrowedRows, ThatAreWrittenAgainAreReadAgain) {
  Engine engine(config_with(sketch(0.1)));
  std::vector<std::int64_t> list;
  engine.write(list, counting(kPrompt));
  engine.warm_up(list);
  const double before = engine.step(list);
  EXPECT_LT(engine.last.stats.rows_gathered, 2 * kPrompt / 4);
  list.resize(2000);
  engine.write(list, counting(2500, 2000));  // over what was there, and beyond
  engine.warm_up(list);                      // what was learned from queries behind the cut is gone, too
  EXPECT_LT(engine.step(list), 4 * before);
  EXPECT_LT(engine.last.stats.rows_gathered, 2 * 4500 / 4);
  const PoolInfo info = engine.runtime.query_pool(engine.pool);
  EXPECT_EQ(info.num_lists, 1);
  EXPECT_GT(info.rows_reindexed, 1500);
  EXPECT_EQ(info.rows_found, 0);
}

TEST(BorrowedRows, ThatAreWrittenBehindItsBackAreFound) {
  Engine engine(config_with(sketch(0.1)));
  std::vector<std::int64_t> list;
  engine.write(list, counting(kPrompt));
  engine.warm_up(list);
  engine.step(list);
  // A shift of the context: every key is turned. The very next step must be right.
  for (std::int64_t cell = 0; cell < kPrompt; ++cell) {
    for (int d = 0; d < 64; ++d) engine.rows.key(cell)[d] *= -1.f;
  }
  EXPECT_LT(engine.step(list), 2e-6);  // the sketch is gone, so all rows are attended
  EXPECT_GT(engine.runtime.query_pool(engine.pool).rows_found, kPrompt - 200);
  engine.warm_up(list);
  EXPECT_LT(engine.step(list), 0.3);
  EXPECT_LT(engine.last.stats.rows_gathered, 2 * kPrompt / 4);
}

TEST(BorrowedRows, AreVerifiedWhenAsked) {
  Engine engine(config_with(sketch(0.02)));
  std::vector<std::int64_t> list;
  engine.write(list, counting(kPrompt));
  engine.warm_up(list);
  EXPECT_EQ(engine.runtime.verify_rows(engine.pool), 0);
  engine.rows.key(1234)[5] += 1.f;   // head 0
  engine.rows.key(3000)[40] += 1.f;  // head 1
  engine.rows.key(2)[0] += 1.f;      // a sink has no code
  EXPECT_EQ(engine.runtime.verify_rows(engine.pool), 2);
  EXPECT_EQ(engine.runtime.verify_rows(engine.pool), 0);
  EXPECT_LE(engine.runtime.query_pool(engine.pool).indexed_rows, 1234);
}

TEST(BorrowedRows, WithoutComparisonsStaleCodesAreUsed) {
  Engine engine(config_with(sketch(0.02)), -1);
  std::vector<std::int64_t> list;
  engine.write(list, counting(kPrompt));
  engine.warm_up(list);
  for (std::int64_t cell = 0; cell < kPrompt; ++cell) engine.rows.key(cell)[0] *= -1.f;
  engine.step(list);
  EXPECT_EQ(engine.runtime.query_pool(engine.pool).rows_found, 0);
  EXPECT_LT(engine.last.stats.rows_gathered, 2 * kPrompt / 4);
}

TEST(BorrowedRows, OfSeveralSequencesHaveListsOfTheirOwn) {
  Engine engine(config_with(sketch(0.1)));
  std::vector<std::int64_t> shared;
  engine.write(shared, counting(2500));
  std::vector<std::vector<std::int64_t>> lists(3, shared);
  std::int64_t next = 2500;
  for (int i = 0; i < 70; ++i) {  // in turns, so that neighbours in memory belong to different sequences
    for (auto& list : lists) engine.write(list, {next++});
    const auto q = engine.source.queries(3);
    const Attended all = attend_rows(engine.runtime, engine.pool, lists, q);
    for (std::size_t s = 0; s < lists.size() && i % 10 == 0; ++s) {
      const std::int64_t width = 4 * 32;
      const Attended one{rows_of(all.out, static_cast<std::int64_t>(s), 1, width),
                         rows_of(all.lse, static_cast<std::int64_t>(s), 1, 4),
                         {}};
      const auto own_q = rows_of(q, static_cast<std::int64_t>(s), 1, width);
      const double error =
          worst_error(one, own_q, 1, engine.rows.sequence(lists[s]), engine.runtime.config().shape).out;
      EXPECT_LT(error, i < 33 ? 2e-6 : 0.3) << i << " " << s;
    }
  }
  EXPECT_EQ(engine.runtime.query_pool(engine.pool).num_lists, 3);
}

TEST(BorrowedRows, SeveralQueriesOfAChainShareAList) {
  Engine engine(config_with(sketch(0.1)));
  std::vector<std::int64_t> list;
  engine.write(list, counting(kPrompt));
  engine.warm_up(list);
  engine.write(list, {kPrompt + 32, kPrompt + 33, kPrompt + 34});
  std::vector<std::vector<std::int64_t>> chain;
  for (const std::int64_t length : {kPrompt + 33, kPrompt + 34, kPrompt + 35}) chain.push_back(counting(length));
  const auto q = engine.source.queries(3);
  const Attended together = attend_rows(engine.runtime, engine.pool, chain, q);
  EXPECT_EQ(engine.runtime.query_pool(engine.pool).num_lists, 1);
  EXPECT_LT(together.stats.rows_gathered, 3 * 2 * kPrompt / 4);
  // Two of the three are taken back; the next token goes where the first of them was.
  list.resize(static_cast<std::size_t>(kPrompt + 33));
  engine.write(list, {kPrompt + 33});
  EXPECT_LT(engine.step(list), 0.3);
  EXPECT_EQ(engine.runtime.query_pool(engine.pool).num_lists, 1);
}

/// Query heads, KV heads, head_dim.
using Shape = std::tuple<int, int, int>;

class BorrowedShapes : public ::testing::TestWithParam<Shape> {};
INSTANTIATE_TEST_SUITE_P(Shapes, BorrowedShapes,
                         ::testing::Values(Shape{2, 2, 64}, Shape{8, 1, 64}, Shape{4, 2, 80}, Shape{8, 1, 128},
                                           Shape{1, 1, 128}, Shape{4, 2, 256}));

TEST_P(BorrowedShapes, AreAttendedExactlyAndSelected) {
  const auto [q_heads, kv_heads, dim] = GetParam();
  Config config = config_with(sketch(0.1));
  config.shape = resolved({1, q_heads, kv_heads, dim, dim, 0.f, 0.f});
  Engine engine(config);
  std::vector<std::int64_t> list;
  engine.write(list, {0});
  EXPECT_LT(engine.step(list), 2e-6);  // one token
  engine.write(list, counting(2999, 1));
  EXPECT_LT(engine.step(list), 2e-6);
  for (int i = 0; i < 66; ++i) {  // 64 query vectors, also of a group of one
    engine.write(list, {3000 + i});
    attend_rows(engine.runtime, engine.pool, {list}, engine.source.queries(1));
  }
  EXPECT_LT(engine.step(list), 0.3);
  EXPECT_LT(engine.last.stats.rows_gathered, kv_heads * 3000 / 4);
  EXPECT_GT(engine.last.stats.rows_gathered, 0);
}

TEST(BorrowedRows, AMaskAddsToLogitsAndHides) {
  Config config = config_with(sketch(0.1));
  Engine engine(config);
  engine.rows.write(engine.tokens(kCells), counting(kCells));
  std::mt19937 random(9);
  std::vector<std::uint16_t> mask(static_cast<std::size_t>(2 * 3000));
  std::vector<double> bias(mask.size());
  for (std::size_t i = 0; i < mask.size(); ++i) {
    const bool hidden = random() % 3 == 0;
    mask[i] = hidden ? 0xfc00 : f32_to_f16(static_cast<float>(random() % 200) * -0.01f);
    bias[i] = hidden ? 0 : f16_to_f32(mask[i]);
  }
  const auto q = engine.source.queries(2);
  const float factors[] = {1.f, 0.5f, 0.25f, 0.f};
  const std::int64_t first[] = {0, 2500};
  const Attended got = attend_rows(engine.runtime, engine.pool, {{}, {}}, q, [&](AttendRowsRequest& request) {
    request.visible.kind = Visibility::Kind::mask;
    request.visible.mask = mask.data();
    request.visible.num_columns = 3000;
    request.visible.first_row = first;
    request.bias_factors = factors;
  });
  const ReferenceSequence all = engine.rows.sequence(counting(kCells));
  for (std::int64_t i = 0; i < 2; ++i) {
    for (int h = 0; h < 4; ++h) {
      std::vector<std::int64_t> positions;
      std::vector<double> biases;
      for (std::int64_t c = 0; c < 3000; ++c) {
        const auto at = static_cast<std::size_t>(i * 3000 + c);
        if (mask[at] == 0xfc00) continue;
        positions.push_back(first[i] + c);
        biases.push_back(static_cast<double>(factors[h]) * bias[at]);
      }
      const std::int64_t row = i * 4 + h;
      const auto expected = all.attend_over(q.data() + row * 32, h, positions, biases);
      EXPECT_LT(relative_error(got.out.data() + row * 32, expected.out), 2e-6);
      EXPECT_NEAR(got.lse[static_cast<std::size_t>(row)], expected.lse, 2e-6);
    }
  }
}

TEST(BorrowedRows, BlocksAreRows) {
  Engine engine(config_with(lsh::SelectAllParams{}));
  engine.rows.write(engine.tokens(kCells), counting(kCells));
  const std::int32_t blocks[] = {7, 2, 9, 300, 11, 5, 0, 0};
  const std::int64_t tokens[] = {61, 40};
  const auto q = engine.source.queries(2);
  const Attended got = attend_rows(engine.runtime, engine.pool, {{}, {}}, q, [&](AttendRowsRequest& request) {
    request.visible.kind = Visibility::Kind::blocks;
    request.visible.blocks = blocks;
    request.visible.block_stride = 4;
    request.visible.block_size = 16;
    request.visible.num_tokens = tokens;
  });
  std::vector<std::vector<std::int64_t>> lists(2);
  for (std::size_t i = 0; i < 2; ++i) {
    for (std::int64_t t = 0; t < tokens[i]; ++t)
      lists[i].push_back(std::int64_t{blocks[i * 4 + static_cast<std::size_t>(t / 16)]} * 16 + t % 16);
  }
  const Attended expected = attend_rows(engine.runtime, engine.pool, lists, q);
  EXPECT_EQ(got.out, expected.out);
  EXPECT_EQ(got.lse, expected.lse);
}

TEST(BorrowedRows, ThatSlideMakeNoLists) {
  Engine engine(config_with(sketch(0.1)));
  engine.rows.write(engine.tokens(kCells), counting(kCells));
  for (std::int64_t first = 0; first < 100; ++first) {  // the oldest row goes as the latest comes
    EXPECT_LT(engine.step(counting(3000, first)), 2e-6);
    EXPECT_EQ(engine.runtime.query_pool(engine.pool).num_lists, 0);
  }
  // Likewise, but as an engine's ring of cells shows it
  for (std::int64_t cell = 1500; cell < 1600; ++cell) {
    std::vector<std::int64_t> seen = counting(cell);
    for (std::int64_t c = cell + 1; c < 3000; ++c) seen.push_back(c);
    EXPECT_LT(engine.step(seen), 2e-6);
    EXPECT_EQ(engine.runtime.query_pool(engine.pool).num_lists, 0);
  }
}

TEST(BorrowedRows, AListIsForkedOnceItsForkGoesOn) {
  Engine engine(config_with(sketch(0.1)));
  std::vector<std::int64_t> list;
  engine.write(list, counting(3000));
  engine.warm_up(list);
  std::vector<std::int64_t> fork(list.begin(), list.begin() + 2500);
  for (int i = 0; i < 40; ++i) {
    fork.push_back(5000 + i);
    engine.rows.write(engine.tokens(1), {5000 + i});
    EXPECT_LT(engine.step(fork), 0.3) << i;
    EXPECT_EQ(engine.runtime.query_pool(engine.pool).num_lists, i == 0 ? 1 : 2);
  }
  EXPECT_LT(engine.last.stats.rows_gathered, 2 * 2500 / 4);
  // What was behind the list's back when it was forked is behind the fork's, too.
  engine.rows.key(1000)[7] += 1.f;
  EXPECT_EQ(engine.runtime.verify_rows(engine.pool), 2);
}

TEST(BorrowedRows, OfManyQueriesTakeTurns) {
  Engine engine(config_with(lsh::SelectAllParams{}));
  engine.rows.write(engine.tokens(kCells), counting(kCells));
  std::vector<std::vector<std::int64_t>> lists;
  for (std::int64_t i = 0; i < 60; ++i) lists.push_back(counting(kCells - i));  // 2^18 rows are reached after 44
  const auto q = engine.source.queries(60);
  const Attended all = attend_rows(engine.runtime, engine.pool, lists, q);
  EXPECT_EQ(all.stats.keys_attended, 4 * (60 * kCells - 60 * 59 / 2));
  for (const std::int64_t i : {0, 43, 44, 59}) {
    const Attended one =
        attend_rows(engine.runtime, engine.pool, {lists[static_cast<std::size_t>(i)]}, rows_of(q, i, 1, 4 * 32));
    EXPECT_EQ(one.out, rows_of(all.out, i, 1, 4 * 32));
  }
}

TEST(BorrowedRows, WithoutMemoryForAnIndexEverythingIsAttended) {
  Config config = config_with(sketch(0.1));
  config.host_memory_bytes = 1 << 18;
  Engine engine(config);
  std::vector<std::int64_t> list;
  engine.write(list, counting(kCells - 40));
  engine.warm_up(list);
  EXPECT_LT(engine.step(list), 2e-6);
  EXPECT_EQ(engine.last.stats.keys_attended, engine.last.stats.keys_visible);
}

}  // namespace
}  // namespace tandem::testing
