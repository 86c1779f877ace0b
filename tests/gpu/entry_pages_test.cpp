#include "gpu/window_policy/entry_pages.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <tuple>

#include <gtest/gtest.h>

#include "runtime/base/random.h"
#include "tests/support/error_message.h"

namespace tandem::gpu {
namespace {

using testing::error_message;

using Row = std::int64_t;  // what a row holds

void copy_bytes(std::byte* target, const std::byte* source, std::int64_t bytes) {
  std::memcpy(target, source, static_cast<std::size_t>(bytes));
}

struct Pool {
  Pool(std::int32_t num_pages, std::int32_t page_rows)
      : memory(static_cast<std::size_t>(num_pages * page_rows)),
        pages(reinterpret_cast<std::byte*>(memory.data()), sizeof(Row), num_pages, page_rows) {}
  std::vector<Row> memory;
  EntryPages pages;
};

Row& at(const EntryTable& table, std::int64_t i) { return *reinterpret_cast<Row*>(table.row(i)); }

/// A head's rows as a plain list, and the same in pages.
struct Head {
  explicit Head(EntryPages& pages) : table(pages) {}
  EntryTable table;
  std::deque<Row> rows;
  std::int64_t begin = 0;

  [[nodiscard]] std::int64_t end() const { return begin + static_cast<std::int64_t>(rows.size()); }
  void append(std::int64_t count, Row& next) {
    table.append(count);
    for (std::int64_t i = 0; i < count; ++i) rows.push_back(at(table, end()) = next++);
  }
  void expect_equal() const {
    ASSERT_EQ(table.begin(), begin);
    ASSERT_EQ(table.end(), end());
    for (std::int64_t i = begin; i < end(); ++i) ASSERT_EQ(at(table, i), rows[static_cast<std::size_t>(i - begin)]);
  }
};

/// (rows of a page, heads)
class EntryPagesLaws : public ::testing::TestWithParam<std::tuple<int, int>> {};

INSTANTIATE_TEST_SUITE_P(EntryPages, EntryPagesLaws,
                         ::testing::Combine(::testing::Values(1, 3, 64), ::testing::Values(1, 2, 8)),
                         [](const auto& test) {
                           return concat("rows", std::get<0>(test.param), "_heads", std::get<1>(test.param));
                         });

TEST_P(EntryPagesLaws, EqualAListForEachHeadWhateverHappens) {
  const auto [page_rows, num_heads] = GetParam();
  Pool pool(num_heads * 400, page_rows);
  CounterRandom random(static_cast<std::uint64_t>(page_rows), static_cast<std::uint64_t>(num_heads));
  const auto draw = [&](std::int64_t below) {
    return static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(below)));
  };
  Row next = 1;
  {
    std::vector<Head> heads;
    for (int h = 0; h < num_heads; ++h) heads.emplace_back(pool.pages);
    for (int step = 0; step < 600; ++step) {
      Head& head = heads[static_cast<std::size_t>(draw(num_heads))];
      const std::int64_t size = head.end() - head.begin;
      switch (size < 150 ? draw(3) : draw(5)) {
        case 0:
          head.append(draw(40), next);
          break;
        case 1:
          head.append(1, next);
          break;
        case 2:
          if (size > 0) head.rows.back() = at(head.table, head.end() - 1) = next++;
          break;
        case 3: {
          const std::int64_t count = draw(size + 1);
          head.table.release_front(head.begin + count);
          head.rows.erase(head.rows.begin(), head.rows.begin() + count);
          head.begin += count;
          break;
        }
        default: {
          const std::int64_t count = draw(size + 1);
          head.table.truncate(head.begin + count);
          head.rows.resize(static_cast<std::size_t>(count));
        }
      }
      std::int64_t held = 0;
      for (const Head& each : heads) {
        ASSERT_NO_FATAL_FAILURE(each.expect_equal()) << step;
        const std::int64_t first = each.begin / page_rows;
        const std::int64_t needed = each.rows.empty() ? 0 : (each.end() + page_rows - 1) / page_rows - first;
        ASSERT_EQ(static_cast<std::int64_t>(each.table.page_ids().size()), needed);
        held += needed;
      }
      ASSERT_EQ(pool.pages.free_pages(), pool.pages.num_pages() - held);
    }
  }
  EXPECT_EQ(pool.pages.free_pages(), pool.pages.num_pages());
}

TEST_P(EntryPagesLaws, AForkHasPagesOfItsOwn) {
  const auto [page_rows, num_heads] = GetParam();
  Pool pool(600, page_rows);
  Row next = 1;
  Head source(pool.pages);
  source.append(2 * page_rows + 1, next);
  source.table.release_front(page_rows);
  const std::int32_t before = pool.pages.free_pages();
  EntryTable fork = source.table.fork(copy_bytes);
  EXPECT_EQ(before - pool.pages.free_pages(), static_cast<std::int32_t>(source.table.page_ids().size()));
  ASSERT_EQ(fork.begin(), source.table.begin());
  ASSERT_EQ(fork.end(), source.table.end());
  for (std::int64_t i = fork.begin(); i < fork.end(); ++i) {
    ASSERT_EQ(at(fork, i), at(source.table, i));
    at(fork, i) = -1;
    ASSERT_NE(at(source.table, i), -1);
  }
  const std::int64_t rows = source.table.end() - source.table.begin();
  source.table.truncate(0);
  EXPECT_EQ(source.table.end() - source.table.begin(), 0);
  for (std::int64_t i = fork.begin(); i < fork.end(); ++i) ASSERT_EQ(at(fork, i), -1);
  EXPECT_EQ(fork.end() - fork.begin(), rows);
}

TEST(EntryPages, ExhaustionIsAnErrorAndChangesNothing) {
  Pool pool(4, 64);
  Row next = 1;
  Head first(pool.pages), second(pool.pages);
  first.append(130, next);
  second.append(64, next);
  EXPECT_EQ(error_message([&] { second.table.append(1); }, ErrorCode::out_of_memory),
            "1 more pages of 64 entries (8 bytes each) are needed; 0 of 4 are free");
  EXPECT_EQ(error_message([&] { (void)second.table.fork(copy_bytes); }, ErrorCode::out_of_memory),
            "1 more pages of 64 entries (8 bytes each) are needed; 0 of 4 are free");
  first.append(62, next);  // the page has room
  first.expect_equal();
  second.expect_equal();
  first.table.truncate(64);
  EXPECT_EQ(pool.pages.free_pages(), 2);
  EXPECT_NE(error_message([&] { second.table.append(1000); }, ErrorCode::out_of_memory), "accepted");
  EXPECT_EQ(pool.pages.free_pages(), 2);
  second.append(128, next);
  second.expect_equal();
}

TEST(EntryPages, ACopyThatFailsGivesThePagesBack) {
  Pool pool(4, 64);
  Row next = 1;
  Head head(pool.pages);
  head.append(100, next);
  const EntryTable::Copy broken = [](std::byte*, const std::byte*, std::int64_t) {
    fail(ErrorCode::device_lost, "gone");
  };
  EXPECT_EQ(error_message([&] { (void)head.table.fork(broken); }, ErrorCode::device_lost), "gone");
  EXPECT_EQ(pool.pages.free_pages(), 2);
  head.expect_equal();
}

TEST(EntryPages, NoRowTakesNoPage) {
  Pool pool(4, 64);
  Row next = 1;
  Head head(pool.pages);
  head.append(70, next);
  head.table.release_front(70);
  head.table.append(0);
  EXPECT_EQ(pool.pages.free_pages(), 4);
  head.table.append(1);
  EXPECT_EQ(pool.pages.free_pages(), 3);
}

TEST(EntryPages, AMovedTableTakesItsPagesAlong) {
  Pool pool(4, 64);
  Row next = 1;
  Head head(pool.pages);
  head.append(100, next);
  head.table.release_front(70);
  EntryTable other(pool.pages);
  other.append(1);
  other = std::move(head.table);
  EXPECT_EQ(other.begin(), 70);
  EXPECT_EQ(other.end(), 100);
  EXPECT_EQ(at(other, 99), 100);
  const EntryTable moved(std::move(other));
  EXPECT_EQ(moved.end(), 100);
  EXPECT_EQ(pool.pages.free_pages(), 2);
}

TEST(EntryPages, AreValidated) {
  const auto make = [](std::int64_t bytes, std::int32_t pages, std::int32_t rows) {
    return error_message([&] { EntryPages(nullptr, bytes, pages, rows); }, ErrorCode::invalid_argument);
  };
  EXPECT_EQ(make(1, 0, 1), "accepted");
  EXPECT_EQ(make(0, 1, 64), "row_bytes is 0; allowed: from 1");
  EXPECT_EQ(make(8, -1, 64), "num_pages is -1; allowed: from 0");
  EXPECT_EQ(make(8, 1, 0), "page_rows is 0; allowed: from 1");
  Pool pool(1, 64);
  EntryTable table(pool.pages);
  EXPECT_EQ(error_message([&] { table.append(-1); }, ErrorCode::invalid_argument), "count is -1; allowed: from 0");
}

}  // namespace
}  // namespace tandem::gpu
