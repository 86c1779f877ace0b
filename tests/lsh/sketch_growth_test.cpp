// Re-calibration of the sketch index: when it takes effect, that nothing but the rows and queries decides what it does,
// and that it helps when these change.
#include <algorithm>
#include <future>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "runtime/base/log.h"
#include "tests/support/sketch_fixture.h"

namespace tandem::lsh {
namespace {

using testing::Chosen;
using testing::chosen;
using testing::SketchFixture;

constexpr std::int64_t kStart = 1216;
constexpr std::int64_t kGrown = 4 * kStart;
constexpr std::int64_t kEffect = kGrown + 1024;

/// A head of `rows` rows, of which the index has seen those that the test has shown it.
struct Growing : SketchFixture {
  explicit Growing(std::int64_t count, double spread_nats = 1.0) : SketchFixture(64, 2, spread_nats) {
    append(count);
    observe(40);
  }
  SketchIndex make(bool in_background = true, const SketchParams& params = {}) {
    return {params, {&rows.ledger, &pools, 0, in_background ? &background : nullptr}, 5};
  }
  /// Shows the first `size` rows.
  void show(SketchIndex& index, std::int64_t size) {
    index.commit(index.prepare(kernels, rows.store.fork(size), observed, scratch));
  }
  void show(SketchIndex& index, std::int64_t size, std::int64_t step) {
    while (index.size() < size) show(index, std::min(size, index.size() + step));
  }
  Chosen select_at(const SketchIndex& index, std::uint64_t seed) {
    SketchFixture other(64, 2, 1.0, seed);
    return chosen(select(index, other.make_queries(), static_cast<std::int64_t>(seed), 0, index.size()));
  }
};

/// Keeps the background thread from everything else until it goes.
class Busy {
 public:
  explicit Busy(BackgroundThread& thread)
      : task_(std::make_shared<BackgroundTask>([this] {
          begun_.set_value();
          release_.get_future().wait();
        })) {
    thread.submit(task_);
    begun_.get_future().wait();
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;
  ~Busy() {
    release_.set_value();
    task_->finish();
  }

 private:
  std::promise<void> begun_, release_;
  std::shared_ptr<BackgroundTask> task_;
};

TEST(SketchGrowth, TakesEffectAtOneSize) {
  Growing head(kEffect + 640);
  SketchIndex index = head.make();
  SketchIndex still = head.make(false);
  head.show(index, kStart);
  head.show(still, kStart);
  for (std::int64_t size = kStart; size < kEffect; size += 64) {
    head.show(index, size);
    head.show(still, size);
    ASSERT_EQ(index.map()->rows, kStart);
    ASSERT_EQ(index.calibrating(), size >= kGrown) << size;
    ASSERT_EQ(index.bytes(), still.bytes());
    ASSERT_EQ(head.select_at(index, 3), head.select_at(still, 3));
  }
  SketchIndex direct = head.make(false);
  head.show(direct, kGrown);
  for (std::int64_t size = kEffect; size <= kEffect + 640; size += 64) {
    head.show(index, size);
    head.show(direct, size);
    ASSERT_EQ(index.map()->rows, kGrown);
    ASSERT_FALSE(index.calibrating());
    ASSERT_EQ(head.select_at(index, 4), head.select_at(direct, 4));
  }
  EXPECT_EQ(index.map()->mean, direct.map()->mean);
  EXPECT_EQ(index.map()->key_planes, direct.map()->key_planes);
  EXPECT_EQ(index.map()->sigma, direct.map()->sigma);
  EXPECT_NE(index.map()->key_planes, still.map()->key_planes);
}

TEST(SketchGrowth, DoesNotDependOnWhoCalibratesNorOnTheSizeOfCalls) {
  constexpr std::int64_t kEnd = 21'000;  // two calibrations: on 4,864 and 19,456 rows
  Growing head(kEnd);
  std::optional<Chosen> expected;
  for (const bool busy : {false, true}) {
    for (const std::int64_t step : {64, 100, 1000, 7000, 50'000}) {
      SketchIndex index = head.make();
      head.show(index, kStart);
      std::optional<Busy> hold;
      if (busy) hold.emplace(head.background);
      head.show(index, kEnd, step);
      EXPECT_EQ(index.map()->rows, 16 * kStart);
      const Chosen now = head.select_at(index, 9);
      if (!expected) expected = now;
      EXPECT_EQ(now, *expected) << "steps of " << step << (busy ? ", by the taker" : "");
    }
  }
}

TEST(SketchGrowth, WaitsForQueriesThatATruncationTookAway) {
  for (const std::int64_t back :
       {kGrown + 64, kEffect + 64}) {  // queries are there again before it takes effect, after
    Growing head(kEffect + 128);
    SketchIndex index = head.make();
    head.show(index, kStart);
    head.observed.truncate(3);
    head.show(index, back - 64, 64);
    EXPECT_FALSE(index.calibrating());
    EXPECT_EQ(index.map()->rows, kStart);
    head.observe(40);
    head.show(index, back);
    EXPECT_EQ(index.calibrating(), back < kEffect);
    head.show(index, kEffect + 128, 64);
    EXPECT_EQ(index.map()->rows, kGrown);
    EXPECT_TRUE(std::isfinite(index.map()->sigma));
  }
}

TEST(SketchGrowth, ForksShareACalibrationAndCutsDropIt) {
  Growing head(kEffect + 64);
  SketchIndex index = head.make();
  head.show(index, kStart);
  head.show(index, kGrown + 128, 64);
  ASSERT_TRUE(index.calibrating());
  SketchIndex sharing = index.fork(kGrown);
  SketchIndex cut = index.fork(kGrown - 64);
  EXPECT_TRUE(sharing.calibrating());
  EXPECT_FALSE(cut.calibrating());
  head.show(index, kEffect - 64, 64);
  SketchIndex late = index.fork(kEffect - 65);  // most of the rest is coded by now
  SketchIndex back = index.fork(kEffect - 640);
  SketchIndex again = back.fork(kGrown - 1);
  for (SketchIndex* one : {&sharing, &cut, &late, &back, &again}) {
    head.show(*one, kEffect - 1, 64);
    EXPECT_EQ(one->map()->rows, kStart);
    head.show(*one, kEffect + 64, 64);
    EXPECT_EQ(one->map()->rows, kGrown);
  }
  head.show(index, kEffect + 64, 64);
  EXPECT_EQ(sharing.map(), index.map());
  EXPECT_EQ(late.map(), index.map());
  EXPECT_NE(cut.map(), index.map());
  const Chosen expected = head.select_at(index, 6);
  for (SketchIndex* one : {&sharing, &cut, &late, &back, &again}) EXPECT_EQ(head.select_at(*one, 6), expected);
  SketchIndex shorter = index.fork(2000);  // after it has taken effect, a cut keeps it
  EXPECT_EQ(shorter.map(), index.map());
  head.show(shorter, kEffect, 64);
  EXPECT_FALSE(shorter.calibrating());
}

TEST(SketchGrowth, NobodyWaitsForWhatIsNotWanted) {
  Growing head(kGrown + 64);
  const std::int64_t before = head.rows.ledger.used_bytes();
  {
    const Busy hold(head.background);
    SketchIndex index = head.make();
    head.show(index, kStart);
    head.show(index, kGrown + 64, 64);
    EXPECT_TRUE(index.calibrating());
  }
  // Pages stay with their pool; maps and snapshots are gone.
  EXPECT_LE(head.rows.ledger.used_bytes() - before, std::int64_t{2} << 20);
}

TEST(SketchGrowth, ARefusedCalibrationLeavesTheOldMap) {
  Growing head(16 * kStart + 1024);
  SketchIndex index = head.make();
  head.show(index, kStart);
  head.show(index, kGrown - 64, 64);
  int heard = 0;
  set_log_hook([&](LogLevel level, const std::string&) { heard += level == LogLevel::warning ? 1 : 0; });
  {
    numa::MemoryLedger& ledger = head.rows.ledger;
    const numa::Reservation all = ledger.reserve(ledger.limit_bytes() - ledger.used_bytes(), "everything");
    const SketchMap* map = index.map();
    head.show(index, kEffect - 64, 64);
    SketchIndex fork = index.fork(kGrown + 128);
    for (SketchIndex* one : {&index, &fork}) {
      head.show(*one, kEffect + 64, 64);
      EXPECT_EQ(one->map(), map);
      EXPECT_FALSE(one->calibrating());
      EXPECT_EQ(one->size(), kEffect + 64);
    }
  }
  set_log_hook({});
  EXPECT_EQ(heard, 1);
  head.show(index, 16 * kStart - 64, 64);
  EXPECT_EQ(index.map()->rows, kStart);
  head.show(index, 16 * kStart + 1024, 64);
  EXPECT_EQ(index.map()->rows, 16 * kStart);
}

TEST(SketchDrift, DoesNotSeeWhatIsNotThere) {
  for (const double spread : {0.01, 1.0, 4.0}) {
    Growing head(kGrown - 64, spread);
    SketchIndex index = head.make();
    head.show(index, kStart);
    for (std::int64_t size = kStart; size < kGrown; size += 64) {
      head.observe(4);
      head.show(index, size);
      ASSERT_FALSE(index.calibrating()) << size;
      EXPECT_LT(index.sigma(), 1.4 * index.map()->sigma);
    }
  }
}

/// Mean error of the output over some steps.
double mean_error(Growing& head, const SketchIndex& index, const std::vector<cpu::AlignedVector<float>>& queries) {
  double sum = 0;
  for (std::size_t t = 0; t < queries.size(); ++t) {
    head.select(index, queries[t], 50'000 + static_cast<std::int64_t>(t));
    const auto estimate = head.attend(queries[t]);
    for (int h = 0; h < 2; ++h)
      sum += testing::relative_error(estimate.out.data() + h * 64, head.exact(queries[t], h).out);
  }
  return sum / (2 * static_cast<double>(queries.size()));
}

class SketchDriftOf : public ::testing::TestWithParam<bool /*keys, or queries*/> {};

INSTANTIATE_TEST_SUITE_P(Keys, SketchDriftOf, ::testing::Values(true));
INSTANTIATE_TEST_SUITE_P(Queries, SketchDriftOf, ::testing::Values(false));

TEST_P(SketchDriftOf, BringsACalibrationForwardAndTheErrorDown) {
  const bool of_keys = GetParam();
  // At first nothing but the first dimensions of keys (or queries) is alive, later only the last ones.
  Growing head(0, 3.0);
  const auto keys = [&](std::int64_t count, int from, int to) {
    std::vector<float> k(static_cast<std::size_t>(count * 64)), v(k.size());
    for (std::size_t i = 0; i < k.size(); ++i) {
      const auto d = static_cast<int>(i % 64);
      k[i] = static_cast<float>(head.random.normal() * (d >= from && d < to ? 1.0 : 0.05));
      v[i] = static_cast<float>(0.5 + head.random.normal());
    }
    head.SketchFixture::append(k, v);
  };
  const auto queries = [&](int from, int to) {
    cpu::AlignedVector<float> q(2 * 64);
    for (std::size_t i = 0; i < q.size(); ++i) {
      const auto d = static_cast<int>(i % 64);
      q[i] = static_cast<float>(head.random.normal() * (d >= from && d < to ? 0.5 : 0.02));
    }
    return q;
  };
  const auto observe = [&](int count, int from, int to) {
    for (int t = 0; t < count; ++t) head.observed.add(head.next_observed++, 1, queries(from, to).data());
  };
  const auto all_or = [](bool restricted, int from, int to) {
    return restricted ? std::pair(from, to) : std::pair(0, 64);
  };
  const auto [k0, k1] = all_or(of_keys, 0, 16);
  const auto [q0, q1] = all_or(!of_keys, 0, 16);
  keys(kStart, k0, k1);
  observe(64, q0, q1);
  SketchIndex index = head.make(true, {.budget = 0.05, .bits_per_dim = 1});
  SketchIndex still = head.make(false, {.budget = 0.05, .bits_per_dim = 1});
  head.show(index, kStart);
  head.show(still, kStart);
  const auto [late_k0, late_k1] = all_or(of_keys, 48, 64);
  const auto [late_q0, late_q1] = all_or(!of_keys, 48, 64);
  while (head.rows.store.size() < 4 * 1024) {
    keys(64, late_k0, late_k1);
    observe(64, late_q0, late_q1);
    head.show(index, head.rows.store.size());
    head.show(still, head.rows.store.size());
    EXPECT_EQ(index.map()->rows == kStart, index.size() < SketchIndex::effect_at(2 * kStart)) << index.size();
  }
  EXPECT_EQ(index.map()->rows, 2 * kStart);
  EXPECT_GT(still.sigma(), 1.5 * still.map()->sigma);
  EXPECT_LT(index.sigma(), 0.9 * still.sigma());
  std::vector<cpu::AlignedVector<float>> tests;
  for (int t = 0; t < 30; ++t) tests.push_back(queries(late_q0, late_q1));
  EXPECT_LT(mean_error(head, index, tests), 0.9 * mean_error(head, still, tests));
}

TEST(SketchDrift, TakesTheCertificateAway) {
  Growing head(kStart, 0.6);
  SketchIndex index = head.make(false, {.bits_per_dim = 1});
  head.show(index, kStart);
  head.select_at(index, 1);
  EXPECT_TRUE(head.selection.certified);
  EXPECT_EQ(index.sigma(), index.map()->sigma);
  head.spread = 6;  // ten times the logits, ten times their errors
  for (int page = 0; page < 16; ++page) {
    head.append(64);
    head.observe(64);
    head.show(index, head.rows.store.size());
  }
  EXPECT_GT(index.sigma(), kCertifiedSigma);
  head.select_at(index, 1);
  EXPECT_FALSE(head.selection.certified);
}

}  // namespace
}  // namespace tandem::lsh
