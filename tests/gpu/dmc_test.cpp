#include "gpu/window_policy/dmc.h"

#include <algorithm>
#include <limits>
#include <string>
#include <tuple>

#include <gtest/gtest.h>

#include "cpu/reference_attention.h"
#include "tests/support/dmc_fixture.h"
#include "tests/support/error_message.h"

namespace tandem::gpu {
namespace {

using testing::DmcResults;
using testing::DmcText;
using testing::error_message;
using testing::rotated_without_last;

constexpr cpu::RopeParams kNotRotated{};
constexpr double kTheta = 10000.0;
constexpr cpu::RopeParams kRope{kTheta, 0, false};

DmcHead head_of(const DmcText& text, int window = 12, int rollback = 16, const cpu::RopeParams& rope = kRope) {
  DmcParams params;
  params.window = window;
  params.rollback = rollback;
  return {params, rope, text.dim_k, text.dim_v};
}
DmcResults run(DmcHead& head, const DmcText& text, std::int64_t chunk = 1 << 30) {
  DmcResults results;
  for (std::int64_t t = head.tokens(); t < text.tokens; t += chunk) {
    results.append(head, text, t, std::min(t + chunk, text.tokens));
  }
  return results;
}
template <typename T>
std::vector<T> row(const std::vector<T>& x, std::int64_t index, int dim) {
  return {x.begin() + index * dim, x.begin() + (index + 1) * dim};
}
/// (window, probability of merging, head_dim)
class DmcLaws : public ::testing::TestWithParam<std::tuple<int, double, int>> {
 protected:
  [[nodiscard]] int window() const { return std::get<0>(GetParam()); }
  [[nodiscard]] double merge() const { return std::get<1>(GetParam()); }
  [[nodiscard]] int dim() const { return std::get<2>(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(Dmc, DmcLaws,
                         ::testing::Combine(::testing::Values(1, 2, 12, 64), ::testing::Values(0.0, 0.5, 0.97, 1.0),
                                            ::testing::Values(2, 80)),
                         [](const auto& test) {
                           return concat("w", std::get<0>(test.param), "_m",
                                         static_cast<int>(100 * std::get<1>(test.param)), "_d",
                                         std::get<2>(test.param));
                         });

TEST_P(DmcLaws, EqualTheWindowedAverageInDouble) {
  const DmcText text(3000, dim(), 7, merge());
  DmcHead head = head_of(text, window(), 16, kNotRotated);
  const DmcResults results = run(head, text);
  std::int64_t begun = 0;
  for (std::int64_t t = 0; t < text.tokens; ++t) {
    auto key = text.average(t, window(), text.k, dim());
    const auto value = text.average(t, window(), text.v, 7);
    key.back() = 0;
    for (int d = 0; d < dim(); ++d) {
      ASSERT_NEAR(results.keys[static_cast<std::size_t>(t * dim() + d)], key[static_cast<std::size_t>(d)], 1e-6) << t;
    }
    for (int d = 0; d < 7; ++d) {
      ASSERT_NEAR(results.values[static_cast<std::size_t>(t * 7 + d)], value[static_cast<std::size_t>(d)], 1e-6) << t;
    }
    begun += text.begins_entry(t) ? 1 : 0;
    const bool is_final = t + 1 < text.tokens && text.begins_entry(t + 1);
    ASSERT_EQ(results.entries[static_cast<std::size_t>(t)], (DmcEntry{begun - 1, is_final})) << t;
  }
  EXPECT_EQ(head.entries(), begun);
  EXPECT_EQ(head.finalised(), begun - 1);
  EXPECT_EQ(head.tokens(), text.tokens);
}

TEST_P(DmcLaws, KeysAreRotatedAtTheLatestPosition) {
  const DmcText text(300, dim(), 3, merge());
  DmcHead head = head_of(text, window());
  const DmcResults results = run(head, text);
  for (std::int64_t t = 0; t < text.tokens; ++t) {
    const auto key = rotated_without_last(text.average(t, window(), text.k, dim()), kTheta, t);
    for (int d = 0; d < dim(); ++d) {
      ASSERT_NEAR(results.keys[static_cast<std::size_t>(t * dim() + d)], key[static_cast<std::size_t>(d)], 2e-6) << t;
    }
  }
}

TEST_P(DmcLaws, BitsDoNotDependOnTheChunks) {
  const DmcText text(200, dim(), 5, merge());
  DmcHead whole = head_of(text, window());
  const DmcResults expected = run(whole, text);
  for (const std::int64_t chunk : {1, 3, 12, 64, 199}) {
    DmcHead head = head_of(text, window());
    const DmcResults results = run(head, text, chunk);
    ASSERT_EQ(results.keys, expected.keys) << chunk;
    ASSERT_EQ(results.values, expected.values) << chunk;
    ASSERT_EQ(head.entries(), whole.entries());
    for (std::int64_t t = 0; t < text.tokens; ++t) {
      const DmcEntry& entry = results.entries[static_cast<std::size_t>(t)];
      ASSERT_EQ(entry.index, expected.entries[static_cast<std::size_t>(t)].index);
      // Whether the last token's entry of a chunk is final, only the next chunk tells.
      const bool last = t % chunk == chunk - 1;
      ASSERT_EQ(entry.is_final, !last && expected.entries[static_cast<std::size_t>(t)].is_final) << t;
    }
  }
}

TEST_P(DmcLaws, TruncationIsExactAsFarBackAsItIsAllowed) {
  constexpr int kRollback = 9;
  const DmcText text(220, dim(), 3, merge()), other(300, dim(), 3, merge(), 1, 2);
  DmcHead source = head_of(text, window(), kRollback);
  for (std::int64_t tokens = 0; tokens <= 120; tokens += 15) {
    DmcResults().append(source, text, source.tokens(), tokens);
    const std::int64_t least = source.restorable_length();
    ASSERT_LE(least, std::max<std::int64_t>(tokens - kRollback, 0));
    for (std::int64_t length = least; length <= tokens; ++length) {
      DmcHead fresh = head_of(text, window(), kRollback), cut = source;
      DmcResults expected, results;
      expected.append(fresh, text, 0, length);
      cut.truncate(length);
      ASSERT_EQ(cut.tokens(), length);
      ASSERT_EQ(cut.entries(), fresh.entries());
      ASSERT_EQ(cut.finalised(), fresh.finalised());
      if (length > 0) {
        std::vector<float> key(static_cast<std::size_t>(dim())), value(3);
        cut.open_entry(key, value);
        ASSERT_EQ(key, row(expected.keys, length - 1, dim())) << length << " of " << tokens;
        ASSERT_EQ(value, row(expected.values, length - 1, 3));
      }
      DmcResults after, after_fresh;
      after.append(cut, other, length, length + 70);
      after_fresh.append(fresh, other, length, length + 70);
      ASSERT_EQ(after.keys, after_fresh.keys) << length << " of " << tokens;
      ASSERT_EQ(after.entries, after_fresh.entries);
    }
    if (least > 0) {
      DmcHead cut = source;
      EXPECT_EQ(error_message([&] { cut.truncate(least - 1); }),
                concat("length is ", least - 1, "; allowed: from ", least,
                       ", as far back as the tokens of an entry are still known"));
      EXPECT_EQ(cut.tokens(), tokens);
    }
  }
}

TEST_P(DmcLaws, RepeatedCutsNeverUseForgottenTokens) {
  const DmcText text(400, dim(), 3, merge());
  CounterRandom random(5, static_cast<std::uint64_t>(window()));
  DmcHead head = head_of(text, window(), 5);
  DmcHead fresh = head_of(text, window(), 5);
  const DmcResults expected = run(fresh, text);
  for (int round = 0; round < 120; ++round) {
    const std::int64_t tokens =
        std::min<std::int64_t>(head.tokens() + 1 + static_cast<std::int64_t>(random.below(7)), text.tokens);
    DmcResults results;
    const std::int64_t first = head.tokens();
    results.append(head, text, first, tokens);
    for (std::int64_t t = first; t < tokens; ++t) {
      ASSERT_EQ(row(results.keys, t - first, dim()), row(expected.keys, t, dim())) << t;
    }
    const std::int64_t least = head.restorable_length();
    const std::int64_t most = std::min<std::int64_t>(head.tokens() - least, 4);
    head.truncate(head.tokens() - static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(most) + 1)));
  }
}

TEST(Dmc, AppendingAlwaysLeavesTokensAsTheyAre) {
  for (const int dim : {64, 80, 96, 128, 256}) {
    const DmcText text(40, dim, dim, 0.0);
    DmcHead head = head_of(text, 12, 16, kNotRotated);
    const DmcResults results = run(head, text);
    EXPECT_EQ(results.values, text.v);
    for (std::int64_t t = 0; t < text.tokens; ++t) {
      auto key = row(text.k, t, dim);
      key.back() = 0.f;
      ASSERT_EQ(row(results.keys, t, dim), key);
    }
  }
}

TEST(Dmc, EntriesOfAllHeadsAddUpToTheTokensThatDidNotMerge) {
  std::int64_t sum = 0, expected = 0;
  for (int h = 0; h < 8; ++h) {
    const DmcText text(500, 4, 4, 0.1 * h, 1, static_cast<std::uint64_t>(h));
    DmcHead head = head_of(text);
    run(head, text, 50);
    sum += head.entries();
    // The first token appends whatever was decided.
    for (std::int64_t t = 0; t < 500; ++t) expected += t == 0 || !text.decisions[static_cast<std::size_t>(t)].merge;
  }
  EXPECT_EQ(sum, expected);
}

/// (head_dim, query heads of the group, probability of merging)
class DmcAttention : public ::testing::TestWithParam<std::tuple<int, int, double>> {};

INSTANTIATE_TEST_SUITE_P(Dmc, DmcAttention,
                         ::testing::Values(std::tuple(64, 1, 0.5), std::tuple(80, 2, 0.75), std::tuple(96, 4, 0.3),
                                           std::tuple(128, 8, 0.9), std::tuple(256, 1, 0.5), std::tuple(64, 2, 0.0)),
                         [](const auto& test) {
                           return concat("d", std::get<0>(test.param), "_g", std::get<1>(test.param), "_m",
                                         static_cast<int>(100 * std::get<2>(test.param)));
                         });

/// Training has an entry for each token and a mask: entry i is for query i, and for later ones if token i + 1 begins an
/// entry. Inference overwrites the last row of a cache and masks nothing.
TEST_P(DmcAttention, OverTheCacheIsThatOverMaskedEntries) {
  const auto [dim, group, merge] = GetParam();
  const DmcText text(130, dim, dim, merge, group);
  std::vector<double> keys, values;  // of every token's entry, in double
  for (std::int64_t t = 0; t < text.tokens; ++t) {
    const auto key = rotated_without_last(text.average(t, 12, text.k, dim), kTheta, t);
    const auto value = text.average(t, 12, text.v, dim);
    keys.insert(keys.end(), key.begin(), key.end());
    values.insert(values.end(), value.begin(), value.end());
  }
  DmcHead head = head_of(text);
  const std::int64_t row_floats = 2 * dim;
  std::vector<float> cache;
  for (std::int64_t t = 0; t < text.tokens; ++t) {
    DmcResults step;
    step.append(head, text, t, t + 1);
    cache.resize(static_cast<std::size_t>(head.entries() * row_floats));
    float* written = cache.data() + (head.entries() - 1) * row_floats;
    std::copy(step.values.begin(), step.values.end(), std::copy(step.keys.begin(), step.keys.end(), written));

    std::vector<double> cached_keys, cached_values, masks(static_cast<std::size_t>(t + 1));
    for (std::int64_t i = 0; i < head.entries(); ++i) {
      const float* entry = cache.data() + i * row_floats;
      cached_keys.insert(cached_keys.end(), entry, entry + dim);
      cached_values.insert(cached_values.end(), entry + dim, entry + 2 * dim);
    }
    for (std::int64_t i = 0; i < t; ++i) {
      if (!text.begins_entry(i + 1)) masks[static_cast<std::size_t>(i)] = -std::numeric_limits<double>::infinity();
    }
    for (int h = 0; h < group; ++h) {
      std::vector<float> q = row(text.q, t * group + h, dim);
      const auto exact_q = rotated_without_last({q.begin(), q.end()}, kTheta, t);
      rotate_for_dmc({}, kRope, t, q);
      const std::vector<double> cached_q(q.begin(), q.end());
      const double scale = 1 / std::sqrt(dim);
      const auto size = static_cast<std::size_t>((t + 1) * dim);
      const auto expected = cpu::reference::attention(
          {exact_q, std::span(keys).first(size), std::span(values).first(size), masks, scale, 0}, dim);
      const auto result = cpu::reference::attention({cached_q, cached_keys, cached_values, {}, scale, 0}, dim);
      ASSERT_NEAR(result.lse, expected.lse, 2e-6) << t;
      for (std::size_t d = 0; d < result.out.size(); ++d) ASSERT_NEAR(result.out[d], expected.out[d], 2e-6) << t;
    }
  }
}

TEST(Dmc, ASealedHeadBeginsAnEntryWhateverIsDecided) {
  const DmcText text(60, 8, 4, 1.0);
  DmcHead head = head_of(text, 12, 0);
  run(head, text);
  EXPECT_EQ(head.entries(), 1);
  EXPECT_GT(head.restorable_length(), 30);
  head.seal(30, 7);
  EXPECT_FALSE(head.has_open_entry());
  EXPECT_EQ(head.finalised(), 7);
  EXPECT_EQ(head.restorable_length(), 30);
  DmcResults results;
  results.append(head, text, 30, 33);
  EXPECT_EQ(head.entries(), 8);
  EXPECT_EQ(results.entries[0], (DmcEntry{7, false}));
  EXPECT_EQ(row(results.values, 0, 4), row(text.v, 30, 4));
  head.truncate(30);
  EXPECT_EQ(head.entries(), 7);
  EXPECT_FALSE(head.has_open_entry());

  DmcHead again = head_of(text);
  again.seal(0, 0);
  EXPECT_EQ(run(again, text).entries[0].index, 0);
}

TEST(Dmc, SealsAreValidated) {
  DmcHead head({}, kRope, 8, 8);
  EXPECT_EQ(error_message([&] { head.seal(-1, 0); }), "tokens is -1; allowed: from 0");
  EXPECT_EQ(error_message([&] { head.seal(3, 0); }), "entries is 0; allowed with 3 tokens: 1 to 3");
  EXPECT_EQ(error_message([&] { head.seal(3, 4); }), "entries is 4; allowed with 3 tokens: 1 to 3");
  EXPECT_EQ(error_message([&] { head.seal(0, 1); }), "entries is 1; allowed with 0 tokens: 0 to 0");
  EXPECT_EQ(head.tokens(), 0);
}

TEST(Dmc, BadInputChangesNothing) {
  const DmcText text(30, 8, 6, 0.5);
  DmcHead head = head_of(text), untouched = head_of(text);
  run(head, text);
  run(untouched, text);
  std::vector<float> keys(16), values(12);
  std::vector<DmcEntry> entries(2);
  const auto with_weight = [&](float weight) {
    const std::vector<DmcDecision> decisions{{true, 0.5f}, {false, weight}};
    DmcTokens tokens = text.slice(0, 2);
    tokens.decisions = decisions;
    return error_message([&] { head.append(tokens, keys, values, entries); });
  };
  EXPECT_EQ(with_weight(0.f), concat("decisions[1].weight is 0; allowed: above 0, to ", kMaxDmcWeight));
  EXPECT_NE(with_weight(-1.f), "accepted");
  EXPECT_NE(with_weight(std::nanf("")), "accepted");
  EXPECT_NE(with_weight(std::numeric_limits<float>::infinity()), "accepted");
  const DmcTokens two = text.slice(0, 2);
  EXPECT_EQ(error_message([&] { head.append(two, std::span(keys).first(8), values, entries); }),
            "keys has 8 elements; needed: 16");
  EXPECT_EQ(error_message([&] { head.append(two, keys, std::span(values).first(1), entries); }),
            "values has 1 elements; needed: 12");
  EXPECT_EQ(error_message([&] { head.append(two, keys, values, std::span(entries).first(1)); }),
            "entries has 1 elements; needed: 2");
  EXPECT_EQ(error_message([&] {
              head.append({two.k, two.v, {}}, keys, values, entries);
            }),
            "k has 16 elements; needed: 0");
  EXPECT_EQ(error_message([&] {
              head.append({two.k, two.v.first(6), two.decisions}, keys, values, entries);
            }),
            "v has 6 elements; needed: 12");
  EXPECT_EQ(head.tokens(), 30);
  EXPECT_EQ(head.entries(), untouched.entries());
  head.append({}, {}, {}, {});
  EXPECT_EQ(head.tokens(), 30);
  std::vector<float> key(8), value(6), expected_key(8), expected_value(6);
  head.open_entry(key, value);
  untouched.open_entry(expected_key, expected_value);
  EXPECT_EQ(key, expected_key);
  EXPECT_EQ(value, expected_value);
  EXPECT_EQ(error_message([] { DmcHead({}, kRope, 0, 8); }), "dim_k is 0; allowed: from 1");
  EXPECT_EQ(error_message([] { DmcHead({}, kRope, 8, -2); }), "dim_v is -2; allowed: from 1");
}

}  // namespace
}  // namespace tandem::gpu
