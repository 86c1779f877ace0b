// Calls in two halves: the same results, in the order in which they were begun, and errors where they are waited for.
#include <thread>

#include "tests/c_api/driver.h"

namespace c_api {
namespace {

class BegunCalls : public testing::Test {
 protected:
  td_call begin(Append& append) {
    td_call call = 0;
    EXPECT_EQ(td_append_begin(rt_, &append.args, &call), TD_OK) << td_last_error();
    return call;
  }
  td_call begin(Attend& attend) {
    td_call call = 0;
    EXPECT_EQ(td_attend_begin(rt_, &attend.args, &call), TD_OK) << td_last_error();
    return call;
  }

  Rt rt_{config()};
  td_seq seq_ = create(rt_);
};

TEST_F(BegunCalls, DoWhatCallsDoInTheirOrder) {
  const td_seq same = create(rt_);
  Append first({seq_}, {200}, 1), second({seq_}, {3}, 2);
  Attend attend({seq_}, {3}, 3);
  auto stats = init<td_stats>();
  attend.args.stats = &stats;
  const td_call calls[] = {begin(first), begin(second), begin(attend)};
  for (int i : {2, 0, 1}) EXPECT_EQ(td_call_wait(rt_, calls[i]), TD_OK) << td_last_error();
  EXPECT_GT(stats.keys_attended, 0);
  Append other_first({same}, {200}, 1), other_second({same}, {3}, 2);
  Attend other({same}, {3}, 3);
  ASSERT_EQ(other_first.run(rt_), TD_OK);
  ASSERT_EQ(other_second.run(rt_), TD_OK);
  ASSERT_EQ(other.run(rt_), TD_OK);
  EXPECT_EQ(attend.out, other.out);
  EXPECT_EQ(attend.lse, other.lse);
}

TEST_F(BegunCalls, FailWhereTheyAreWaitedFor) {
  fill(rt_, seq_, 20, 1);
  Attend bad({seq_}, {21}, 3);
  const td_call call = begin(bad);
  EXPECT_EQ(td_call_wait(rt_, call), TD_EINVAL);
  EXPECT_THAT(td_last_error(), testing::HasSubstr("num_queries[0] is 21"));
  EXPECT_EQ(td_call_wait(rt_, call), TD_ESTATE);
  EXPECT_THAT(td_last_error(), testing::HasSubstr("was not begun, or has been waited for"));
  EXPECT_EQ(td_call_wait(rt_, 0), TD_ESTATE);
  std::int32_t ended = 7;
  EXPECT_EQ(td_call_test(rt_, call, &ended), TD_ESTATE);
  EXPECT_EQ(ended, 7);
  // What is wrong with a struct itself is found at once, and nothing is begun.
  Attend unread({seq_}, {1}, 3);
  unread.args.size = 0;
  td_call none = 77;
  EXPECT_EQ(td_attend_begin(rt_, &unread.args, &none), TD_EINVAL);
  EXPECT_EQ(none, 77u);
  EXPECT_EQ(td_attend_begin(nullptr, &bad.args, &none), TD_EINVAL);
  EXPECT_EQ(td_append_begin(rt_, nullptr, &none), TD_EINVAL);
  EXPECT_EQ(td_attend_begin(rt_, &bad.args, nullptr), TD_EINVAL);
  EXPECT_EQ(td_call_wait(nullptr, 1), TD_EINVAL);
}

TEST_F(BegunCalls, TellWhenTheyHaveEnded) {
  Append append({seq_}, {300}, 1);
  const td_call call = begin(append);
  std::int32_t ended = 0;
  while (ended == 0) {
    ASSERT_EQ(td_call_test(rt_, call, &ended), TD_OK);
    std::this_thread::yield();
  }
  std::int64_t length = 0;
  EXPECT_EQ(td_seq_length(rt_, seq_, 0, &length), TD_OK);
  EXPECT_EQ(length, 300);
  EXPECT_EQ(td_call_wait(rt_, call), TD_OK);
}

TEST_F(BegunCalls, ThatNobodyWaitsForRunBeforeTheRuntimeEnds) {
  Attend attend({seq_}, {1}, 3);
  {
    td_rt* rt = nullptr;
    const td_config c = config();
    ASSERT_EQ(td_create(&c, &rt), TD_OK);
    const td_seq seq = create(rt);
    Append append({seq}, {100}, 1);
    attend.seqs = {seq};
    td_call calls[2];
    ASSERT_EQ(td_append_begin(rt, &append.args, &calls[0]), TD_OK);
    ASSERT_EQ(td_attend_begin(rt, &attend.args, &calls[1]), TD_OK);
    td_destroy(rt);
  }
  float largest = 0;
  for (const float x : attend.out) largest = std::max(largest, std::abs(x));
  EXPECT_GT(largest, 0.f);
}

TEST_F(BegunCalls, OfManyThreadsAreKeptApart) {
  std::vector<std::thread> threads;
  for (std::uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      const td_seq seq = create(rt_);
      for (std::uint32_t i = 0; i < 20; ++i) {
        Append append({seq}, {3}, 100 * t + i);
        const bool bad = i % 5 == 4;
        if (bad) append.k[0] = std::numeric_limits<float>::infinity();
        td_call call = 0;
        ASSERT_EQ(td_append_begin(rt_, &append.args, &call), TD_OK);
        ASSERT_EQ(td_call_wait(rt_, call), bad ? TD_EINVAL : TD_OK);
      }
      std::int64_t length = 0;
      ASSERT_EQ(td_seq_length(rt_, seq, 0, &length), TD_OK);
      EXPECT_EQ(length, 48);
    });
  }
  for (std::thread& t : threads) t.join();
}

}  // namespace
}  // namespace c_api
