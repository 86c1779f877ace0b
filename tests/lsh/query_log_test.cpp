#include "lsh/query_log.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include <gtest/gtest.h>

#include "numa/memory_ledger.h"

namespace tandem::lsh {
namespace {

constexpr int kGroup = 16;  // so that the log holds 8 tokens
constexpr int kDim = 16;
constexpr std::int64_t kMostTokens = 8;

/// A log of queries that name their token: `label` in every element. Small integers, which bf16 holds.
struct Log {
  numa::MemoryLedger ledger{1 << 20};
  QueryLog queries{kGroup, kDim, ledger};

  /// Tokens from first_position on, labelled first_label, first_label + 1, ..
  void add(std::int64_t first_position, std::int64_t num_tokens, int first_label) {
    std::vector<float> vectors;
    for (std::int64_t t = 0; t < num_tokens; ++t) {
      vectors.insert(vectors.end(), kGroup * kDim, static_cast<float>(first_label + t));
    }
    queries.add(first_position, num_tokens, vectors.data());
  }
  /// Tokens labelled with their positions.
  void add(std::int64_t first_position, std::int64_t num_tokens) {
    add(first_position, num_tokens, static_cast<int>(first_position));
  }
};

std::vector<int> labels(const QueryLog& log) {
  const std::vector<float> even = log.half(false), odd = log.half(true);
  std::vector<int> result;
  const std::int64_t tokens = log.num_vectors() / kGroup;
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::vector<float>& half = t % 2 == 0 ? even : odd;
    result.push_back(static_cast<int>(half[static_cast<std::size_t>(t / 2 * kGroup * kDim)]));
  }
  return result;
}

std::vector<int> counted(int first, int count) {
  std::vector<int> result(static_cast<std::size_t>(count));
  std::iota(result.begin(), result.end(), first);
  return result;
}

TEST(QueryLog, HoldsTheLatestTokens) {
  Log log;
  EXPECT_EQ(log.queries.max_tokens(), kMostTokens);
  EXPECT_TRUE(labels(log.queries).empty());
  log.add(0, 1);
  EXPECT_EQ(labels(log.queries), counted(0, 1));
  log.add(1, 7);
  EXPECT_EQ(labels(log.queries), counted(0, 8));
  log.add(8, 1);
  EXPECT_EQ(labels(log.queries), counted(1, 8));
  log.add(9, 20);
  EXPECT_EQ(labels(log.queries), counted(21, 8));
}

TEST(QueryLog, SkipsTokensThatItHas) {
  for (const std::int64_t n : {1, 2, 5, 8, 11}) {
    Log once, again;
    for (std::int64_t first = 0; first < 3 * n; first += n) {
      once.add(first, n);
      again.add(first, n);
      again.add(first, n);
      if (n > 2) again.add(first + n - 2, 2);
    }
    EXPECT_EQ(labels(again.queries), labels(once.queries)) << n;
  }
}

TEST(QueryLog, AddsWhatIsNewOfACall) {
  Log log;
  log.add(0, 3);
  log.add(1, 4);
  EXPECT_EQ(labels(log.queries), counted(0, 5));
}

TEST(QueryLog, DoesNotDependOnHowTokensAreGroupedInCalls) {
  Log reference;
  for (std::int64_t t = 0; t < 29; ++t) reference.add(t, 1);
  for (const std::int64_t n : {2, 3, 7, 8, 9, 29}) {
    Log log;
    for (std::int64_t first = 0; first < 29; first += n) log.add(first, std::min<std::int64_t>(n, 29 - first));
    EXPECT_EQ(log.queries.half(false), reference.queries.half(false)) << n;
    EXPECT_EQ(log.queries.half(true), reference.queries.half(true)) << n;
    EXPECT_EQ(log.queries.spread(20), reference.queries.spread(20)) << n;
  }
}

TEST(QueryLog, LogsPositionsThatAreUsedAgainAfterTruncation) {
  Log log;
  log.add(0, 6);
  log.queries.truncate(4);
  EXPECT_EQ(labels(log.queries), counted(0, 4));
  log.add(4, 2, 50);
  EXPECT_EQ(labels(log.queries), (std::vector{0, 1, 2, 3, 50, 51}));
  log.add(3, 3, 70);  // it has all of them
  EXPECT_EQ(labels(log.queries), (std::vector{0, 1, 2, 3, 50, 51}));
}

TEST(QueryLog, TruncationDoesNotBringBackWhatWasDisplaced) {
  Log log;
  log.add(0, 11);
  log.queries.truncate(20);
  EXPECT_EQ(labels(log.queries), counted(3, 8));
  log.queries.truncate(9);
  EXPECT_EQ(labels(log.queries), counted(3, 6));
  log.add(9, 4);
  EXPECT_EQ(labels(log.queries), counted(5, 8));
  log.queries.truncate(2);
  EXPECT_TRUE(labels(log.queries).empty());
  EXPECT_EQ(log.queries.num_vectors(), 0);
  log.add(1, 2);  // token 1 was displaced: it is not there
  EXPECT_EQ(labels(log.queries), counted(1, 2));
}

TEST(QueryLog, PositionsMayHaveGaps) {
  Log log;
  log.add(2, 1);
  log.add(100, 2);
  log.queries.truncate(101);
  EXPECT_EQ(labels(log.queries), (std::vector{2, 100}));
  log.queries.truncate(50);
  EXPECT_EQ(labels(log.queries), (std::vector{2}));
}

TEST(QueryLog, ForksAreIndependent) {
  Log log;
  log.add(0, 10);
  QueryLog copy = log.queries.fork();
  copy.truncate(7);
  EXPECT_EQ(labels(copy), counted(2, 5));
  EXPECT_EQ(labels(log.queries), counted(2, 8));
  log.add(10, 1);
  EXPECT_EQ(labels(copy), counted(2, 5));
}

}  // namespace
}  // namespace tandem::lsh
