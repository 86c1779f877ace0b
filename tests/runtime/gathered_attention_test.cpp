// Attention over gathered rows in parts: what one pass gives, and the same bits whoever shares the parts.
#include "runtime/gathered_attention.h"

#include <cmath>

#include <gtest/gtest.h>

#include "cpu/codec/simhash.h"
#include "cpu/sampled_attention.h"
#include "cpu/sparse_attention.h"
#include "lsh/estimate.h"
#include "tests/support/attention_head.h"
#include "tests/support/runtime_driver.h"

namespace tandem::testing {
namespace {

constexpr std::int64_t kRows = 6000;
constexpr int kGroup = 3, kDim = 24;

struct Result {
  std::vector<float> out = std::vector<float>(kGroup * kDim, 7.f), lse = std::vector<float>(kGroup, 7.f), weight = lse,
                     square = lse, value = out;
  [[nodiscard]] PartialAttention partial() { return {out.data(), lse.data(), kGroup, kDim}; }
  [[nodiscard]] cpu::SampleSpread spread() { return {weight.data(), value.data(), square.data()}; }
  bool operator==(const Result&) const = default;
};

class GatheredAttention : public ::testing::Test {
 protected:
  /// Of every three rows one is in the exact list up to `exact` of them, another in the sampled list up to `sampled`.
  static cpu::Selection selection(std::size_t exact, std::size_t sampled) {
    CounterRandom random(3, 4);
    cpu::Selection selection;
    for (std::uint32_t r = 0; r + 2 < kRows; r += 3) {
      if (selection.rows.size() < exact) selection.rows.push_back(r);
      if (selection.sampled.rows.size() >= sampled) continue;
      selection.sampled.rows.push_back(r + 1);
      selection.sampled.inclusion.push_back(static_cast<float>(std::pow(10.0, -2 * random.uniform())));
    }
    selection.log_calibration.assign(kGroup, 0.1f);
    return selection;
  }
  [[nodiscard]] cpu::QueryBlock query() const { return {head_.scaled.data(), &position_, 1, kGroup}; }

  Result in_parts(const cpu::Selection& selection, numa::NodeWorkers workers) const {
    LeasePool<cpu::AttentionScratch> scratch;
    std::vector<float> memory;
    Result result;
    gathered_attention({kernels_, head_.fixture.store, 0, query(), logits_, workers, scratch}, selection, memory,
                       result.partial(), result.spread());
    return result;
  }
  Result in_one_pass(const cpu::Selection& selection) const {
    cpu::AttentionScratch scratch;
    Result result, sampled;
    cpu::sparse_attention(kernels_, head_.fixture.store, 0, selection, query(), logits_, scratch, result.partial(),
                          result.spread());
    if (selection.sampled.rows.empty()) return result;
    cpu::sampled_attention(kernels_, head_.fixture.store, 0, selection.sampled, query(), logits_, scratch,
                           sampled.partial(), result.spread());
    lsh::join_sampled(selection, result.partial(), sampled.partial(), result.spread());
    return result;
  }

  const AttentionHead head_{kDim, kDim, kGroup, DType::f32, kRows};
  const cpu::Kernels& kernels_ = cpu::kernels_for(cpu::available_isas().back());
  const cpu::LogitRule logits_;
  const std::int64_t position_ = kRows;
};

TEST_F(GatheredAttention, PartsAddUpToOnePass) {
  for (const std::size_t exact : {0, 1, 1023, 1024, 1025, 2000}) {
    for (const std::size_t sampled : {0, 1, 900, 1024, 1990}) {
      const auto chosen = selection(exact, sampled);
      const Result parts = in_parts(chosen, {});
      const Result pass = in_one_pass(chosen);
      for (std::size_t h = 0; h < kGroup; ++h) {
        if (exact + sampled == 0) {
          EXPECT_EQ(parts.lse[h], -INFINITY);
          continue;
        }
        EXPECT_NEAR(parts.lse[h], pass.lse[h], 1e-5) << exact << " + " << sampled;
        EXPECT_NEAR(parts.weight[h], pass.weight[h], 1e-4 * pass.weight[h] + 1e-9) << exact << " + " << sampled;
        EXPECT_NEAR(parts.square[h], pass.square[h], 1e-4 * pass.square[h] + 1e-9) << exact << " + " << sampled;
      }
      for (std::size_t i = 0; i < parts.out.size(); ++i) {
        EXPECT_NEAR(parts.out[i], pass.out[i], 1e-5) << exact << " + " << sampled;
        EXPECT_NEAR(parts.value[i], pass.value[i], 1e-4 * std::abs(pass.value[i]) + 1e-7) << exact << " + " << sampled;
      }
      if (exact <= 1024 && sampled <= 1024) {
        EXPECT_EQ(parts, pass) << "one part each is one pass";
      }
    }
  }
}

TEST_F(GatheredAttention, PartsOfWeightedRowsAddUpWithTheirSpread) {
  const std::vector<float> inverse_norms(kRows, 0.2f), offsets(kGroup, 0.1f), inverse_queries(kGroup, 0.8f);
  auto chosen = selection(2000, 0);
  chosen.weights =
      cpu::CollisionRule{cpu::collision_weight(2, 40, 2), inverse_norms.data(), offsets.data(), inverse_queries.data()};
  const Result parts = in_parts(chosen, {});
  const Result pass = in_one_pass(chosen);
  for (std::size_t h = 0; h < kGroup; ++h) {
    EXPECT_GT(pass.weight[h], 0.f);
    EXPECT_NEAR(parts.lse[h], pass.lse[h], 1e-5);
    EXPECT_NEAR(parts.weight[h], pass.weight[h], 1e-4 * pass.weight[h]);
    EXPECT_NEAR(parts.square[h], pass.square[h], 1e-4 * pass.square[h]);
  }
  for (std::size_t i = 0; i < parts.out.size(); ++i) {
    EXPECT_NEAR(parts.out[i], pass.out[i], 1e-5);
    EXPECT_NEAR(parts.value[i], pass.value[i], 1e-4 * std::abs(pass.value[i]) + 1e-7);
  }
}

TEST_F(GatheredAttention, BitsDoNotDependOnTheWorkers) {
  const auto chosen = selection(2000, 1990);
  const Result alone = in_parts(chosen, {});
  for (const int workers : {1, 2, 5}) {
    numa::WorkerPool pool(numa::Topology::synthetic("node:1 core:8 pu:1"), workers);
    for (int repeat = 0; repeat < 20; ++repeat) EXPECT_EQ(in_parts(chosen, {pool, 0}), alone) << workers;
  }
}

/// A long sequence of one KV head: only its parts can occupy several workers.
Attended long_step(const lsh::SelectorParams& selector, int workers) {
  constexpr std::int64_t kTokens = 30000;
  Config config;
  config.shape = resolved({1, 2, 1, 16, 16, 0.f, 0.f});
  config.window = {4, 64, DType::f32};
  config.selector = selector;
  config.never_slower = false;
  config.num_workers = workers;
  Runtime runtime(config);
  TokenSource source(runtime.config().shape, 9);
  const std::uint64_t sequence = runtime.create_sequence();
  const auto tokens = source.tokens(kTokens);
  append(runtime, sequence, tokens.k, tokens.v);
  attend(runtime, sequence, 64, source.queries(64), {.exact = true});  // seen by the index
  return attend(runtime, sequence, 3, source.queries(3));
}

TEST(GatheredAttentionOfAStep, BitsDoNotDependOnTheNumberOfWorkers) {
  const lsh::SelectorParams selectors[] = {lsh::SketchParams{.budget = 0.1}, lsh::SketchParams{.error = 0.05},
                                           lsh::SketchParams{.budget = 0.1, .top_k = true},
                                           lsh::LshParams{6, 40, 2, 9}};
  for (const auto& selector : selectors) {
    const Attended alone = long_step(selector, 1);
    EXPECT_GT(alone.stats.rows_gathered, 3 * 1024) << "several parts";
    for (const int workers : {2, 4}) {
      const Attended shared = long_step(selector, workers);
      EXPECT_EQ(shared.out, alone.out) << workers;
      EXPECT_EQ(shared.lse, alone.lse) << workers;
      EXPECT_EQ(shared.stats.out_error, alone.stats.out_error) << workers;
      EXPECT_EQ(shared.stats.rows_gathered, alone.stats.rows_gathered) << workers;
    }
  }
}

}  // namespace
}  // namespace tandem::testing
