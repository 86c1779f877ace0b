// Re-calibration of sketches through the runtime: at one length, with the same bits whoever works and shares the call.
#include <gtest/gtest.h>

#include "tests/support/runtime_driver.h"

namespace tandem::testing {
namespace {

constexpr std::int64_t kPrompt = 1300;  // 1,216 of which leave the window
constexpr std::int64_t kIndexed = 1216;

Config config_with(int workers) {
  Config config;
  config.shape = resolved({2, 4, 2, 32, 32, 0.f, 0.f});
  config.window = {4, 64, DType::f32};
  config.selector = lsh::SketchParams{.budget = 0.1};
  config.never_slower = false;
  config.num_workers = workers;
  return config;
}

/// A sequence and the tokens that it is to hold: the same for the same seed, whoever shares its calls.
struct Stream {
  Stream(Runtime& runtime, std::uint64_t seed)
      : id(runtime.create_sequence()), source(runtime.config().shape, seed, DType::f32, 1.2) {}
  std::uint64_t id;
  TokenSource source;
};

/// `count` tokens each in both layers, then one query per sequence and layer; out of layer 1, by sequence.
std::vector<std::vector<float>> step(Runtime& runtime, std::vector<Stream>& streams, std::int64_t count) {
  std::vector<std::uint64_t> ids;
  std::vector<std::vector<float>> results(streams.size());
  for (const Stream& stream : streams) ids.push_back(stream.id);
  for (std::int32_t layer = 0; layer < 2; ++layer) {
    std::vector<float> q;
    for (Stream& stream : streams) {
      const auto tokens = stream.source.tokens(count);
      append(runtime, stream.id, tokens.k, tokens.v, layer);
      const auto more = stream.source.queries(1);
      q.insert(q.end(), more.begin(), more.end());
    }
    const std::vector<std::int64_t> counts(streams.size(), 1);
    const Attended attended = attend(runtime, ids, counts, q, {.layer = layer});
    const std::size_t values = attended.out.size() / streams.size();
    for (std::size_t s = 0; s < streams.size(); ++s) {
      results[s].assign(attended.out.begin() + static_cast<std::ptrdiff_t>(s * values),
                        attended.out.begin() + static_cast<std::ptrdiff_t>((s + 1) * values));
    }
  }
  return results;
}

/// Outputs of every step of sequences with `seeds`, until they hold `length` tokens.
std::vector<std::vector<float>> play(int workers, const std::vector<std::uint64_t>& seeds, std::int64_t length) {
  Runtime runtime(config_with(workers));
  std::vector<Stream> streams;
  for (const std::uint64_t seed : seeds) streams.emplace_back(runtime, seed);
  std::vector<std::vector<float>> all(seeds.size());
  const auto note = [&](const std::vector<std::vector<float>>& results) {
    for (std::size_t s = 0; s < seeds.size(); ++s) all[s].insert(all[s].end(), results[s].begin(), results[s].end());
  };
  note(step(runtime, streams, kPrompt));
  for (int warm_up = 0; warm_up < 32; ++warm_up) note(step(runtime, streams, 1));
  while (runtime.query_sequence(streams.front().id, 1).length < length) note(step(runtime, streams, 48));
  for (const Stream& stream : streams) {
    EXPECT_EQ(runtime.query_sequence(stream.id, 0).calibrated_rows, 4 * kIndexed);
    EXPECT_EQ(runtime.query_sequence(stream.id, 1).calibrated_rows, 4 * kIndexed);
  }
  return all;
}

TEST(SketchGrowth, TakesEffectAtOneLength) {
  Runtime runtime(config_with(2));
  std::vector<Stream> streams;
  streams.emplace_back(runtime, 1);
  step(runtime, streams, kPrompt);
  for (int warm_up = 0; warm_up < 31; ++warm_up) step(runtime, streams, 1);
  const std::int64_t effect = lsh::SketchIndex::effect_at(4 * kIndexed);
  SequenceInfo info = runtime.query_sequence(streams[0].id, 0);
  ASSERT_EQ(info.calibrated_rows, kIndexed);
  while (info.host_rows < effect + 64) {
    EXPECT_EQ(info.calibrated_rows, info.host_rows < effect ? kIndexed : 4 * kIndexed);
    step(runtime, streams, 16);
    info = runtime.query_sequence(streams[0].id, 0);
  }
}

TEST(SketchGrowth, BitsDoNotDependOnWorkersOrTheBatch) {
  constexpr std::int64_t kLength = 6300;
  const auto expected = play(1, {1, 2}, kLength);
  EXPECT_EQ(play(2, {1, 2}, kLength), expected);
  EXPECT_EQ(play(3, {2, 1}, kLength), (std::vector{expected[1], expected[0]}));
  EXPECT_EQ(play(2, {2}, kLength).front(), expected[1]);
}

TEST(SketchGrowth, ForksAndCutsGoOnAlike) {
  Runtime runtime(config_with(2));
  std::vector<Stream> streams;
  streams.emplace_back(runtime, 1);
  step(runtime, streams, kPrompt);
  for (int warm_up = 0; warm_up < 32; ++warm_up) step(runtime, streams, 1);
  while (runtime.query_sequence(streams[0].id, 0).host_rows < 4 * kIndexed + 256) step(runtime, streams, 64);
  const std::int64_t length = runtime.query_sequence(streams[0].id, 0).length;
  std::vector<Stream> forks = streams;
  forks[0].id = runtime.fork_sequence(streams[0].id, -1, std::nullopt);
  step(runtime, streams, 300);
  runtime.truncate_sequence(streams[0].id, length);
  std::vector<Stream> both{forks[0], forks[0]};
  both[1].id = streams[0].id;
  while (runtime.query_sequence(forks[0].id, 0).host_rows < lsh::SketchIndex::effect_at(4 * kIndexed)) {
    const auto results = step(runtime, both, 64);
    EXPECT_EQ(results[0], results[1]);
  }
  EXPECT_EQ(runtime.query_sequence(both[0].id, 1).calibrated_rows, 4 * kIndexed);
  EXPECT_EQ(runtime.query_sequence(both[1].id, 1).calibrated_rows, 4 * kIndexed);
}

TEST(SketchGrowth, ARuntimeEndsWhileItCalibrates) {
  for (int repeat = 0; repeat < 5; ++repeat) {
    Runtime runtime(config_with(2));
    std::vector<Stream> streams;
    for (const std::uint64_t seed : {1, 2, 3}) streams.emplace_back(runtime, seed);
    step(runtime, streams, kPrompt);
    for (int warm_up = 0; warm_up < 32; ++warm_up) step(runtime, streams, 1);
    step(runtime, streams, 3700 + 64 * repeat);
    if (repeat % 2 == 1) runtime.destroy_sequence(streams[1].id);
  }
}

}  // namespace
}  // namespace tandem::testing
