// Different sequences in parallel are independent; misuse of one sequence is an error, not a race.
#include <algorithm>
#include <atomic>
#include <thread>

#include "tests/c_api/driver.h"

namespace c_api {
namespace {

/// Runs work(0), work(1), ... on threads of their own that start together.
template <typename Work>
void in_parallel(int threads, const Work& work) {
  std::atomic<int> waiting{threads};
  std::vector<std::thread> running;
  for (int t = 0; t < threads; ++t) {
    running.emplace_back([&, t] {
      waiting.fetch_sub(1);
      while (waiting.load() > 0) std::this_thread::yield();
      work(t);
    });
  }
  for (auto& thread : running) thread.join();
}

td_config config_with(const td_selector* selector) {
  td_config c = config();
  c.selector = selector;
  return c;
}

/// A sequence's whole life, with forks and truncations; every output on the way.
std::vector<float> life(td_rt* rt, std::uint32_t seed) {
  std::vector<float> outputs;
  const auto note = [&](td_seq seq, std::int64_t queries) {
    const auto values = attended(rt, seq, queries);
    outputs.insert(outputs.end(), values.begin(), values.end());
  };
  const td_seq seq = create(rt);
  for (std::uint32_t step = 0; step < 12; ++step) {
    fill(rt, seq, 1 + (step * 53 + seed) % 90, seed + step);
    note(seq, 1);
    if (step % 4 != 3) continue;
    std::int64_t length = 0;
    EXPECT_EQ(td_seq_length(rt, seq, 0, &length), TD_OK);
    td_seq fork = 0;
    EXPECT_EQ(td_seq_fork(rt, seq, length - 30, nullptr, &fork), TD_OK) << td_last_error();
    fill(rt, fork, 77, seed + 100);
    note(fork, 2);
    EXPECT_EQ(td_seq_truncate(rt, seq, length - 40), TD_OK) << td_last_error();
    note(seq, 1);
    EXPECT_EQ(td_seq_destroy(rt, fork), TD_OK);
  }
  EXPECT_EQ(td_seq_destroy(rt, seq), TD_OK);
  return outputs;
}

class Threads : public testing::TestWithParam<td_selector_kind> {};

INSTANTIATE_TEST_SUITE_P(CApi, Threads, testing::Values(TD_SELECT_ALL, TD_SELECT_TOP_K, TD_SELECT_LSH));

TEST_P(Threads, OnDifferentSequencesGiveTheBitsOfASerialRun) {
  td_selector selector = lsh_selector();
  selector.kind = GetParam();
  selector.budget = 0.1;
  constexpr int kThreads = 4;
  std::vector<std::vector<float>> serial, parallel(kThreads);
  {
    const Rt rt(config_with(&selector));
    for (std::uint32_t t = 0; t < kThreads; ++t) serial.push_back(life(rt, 1000 * t));
  }
  const Rt rt(config_with(&selector));
  in_parallel(kThreads,
              [&](int t) { parallel[static_cast<std::size_t>(t)] = life(rt, static_cast<std::uint32_t>(1000 * t)); });
  EXPECT_EQ(parallel, serial);
}

TEST_P(Threads, OnOneSequenceAreRefusedAndCorruptNothing) {
  td_selector selector = lsh_selector();
  selector.kind = GetParam();
  selector.budget = 0.1;
  const Rt rt(config_with(&selector));
  const td_seq seq = create(rt);
  ASSERT_EQ(Append({seq}, {1}, 7).run(rt), TD_OK);
  std::atomic<std::int64_t> appended{1};
  std::atomic<int> wrong{0};
  in_parallel(2, [&](int t) {
    Append append({seq}, {1}, 7);  // every token is the same, so that the order of the threads does not show
    Attend attend({seq}, {1}, 99);
    auto info = init<td_seq_info>();
    for (int i = 0; i < 400; ++i) {
      const td_status status = i % 3 == t             ? td_append(rt, &append.args)
                               : i % 3 == 2 && t == 0 ? td_seq_query(rt, seq, 0, &info)
                                                      : td_attend(rt, &attend.args);
      if (status == TD_OK && i % 3 == t) appended.fetch_add(1);
      const bool busy = status == TD_ESTATE && std::string(td_last_error()).find("is in use") != std::string::npos;
      if (status != TD_OK && !busy) wrong.fetch_add(1);
    }
  });
  EXPECT_EQ(wrong, 0);
  std::int64_t length = 0;
  ASSERT_EQ(td_seq_length(rt, seq, 0, &length), TD_OK);
  EXPECT_EQ(length, appended);
  // All tokens are equal, so any selection of them attends to the same value.
  const auto values = attended(rt, seq, 1);
  const Append token({1}, {1}, 7);
  for (std::size_t i = 0; i < kQHeads * kDim; ++i) {
    EXPECT_NEAR(values[i], token.v[i / (kQHeads / kKvHeads * kDim) * kDim + i % kDim], 1e-5);
  }
}

TEST(ThreadsCApi, OverlappingBatchesAreRefusedWithoutDeadlock) {
  const Rt rt(config());
  std::vector<td_seq> seqs;
  for (std::uint32_t s = 0; s < 3; ++s) {
    seqs.push_back(create(rt));
    fill(rt, seqs.back(), 200, s);
  }
  const Snapshot before(rt, {seqs[0], seqs[1], seqs[2]});
  std::atomic<int> wrong{0};
  std::atomic<int> done{0};
  in_parallel(3, [&](int t) {
    const auto n = static_cast<std::size_t>(t);
    Attend attend({seqs[n], seqs[(n + 1) % 3]}, {1, 1}, 5);
    for (int i = 0; i < 200; ++i) {
      const td_status status = attend.run(rt);
      if (status == TD_OK) done.fetch_add(1);
      if (status != TD_OK && status != TD_ESTATE) wrong.fetch_add(1);
    }
  });
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(done, 0);
  EXPECT_EQ(Snapshot(rt, {seqs[0], seqs[1], seqs[2]}), before) << "no sequence is left locked";
}

TEST(ThreadsCApi, ASequenceInUseIsNotDestroyed) {
  const Rt rt(config());
  int refused = 0;
  for (int round = 0; round < 100 && refused == 0; ++round) {
    const td_seq seq = create(rt);
    ASSERT_EQ(Append({seq}, {1500}, 1).run(rt), TD_OK);
    std::atomic<int> wrong{0};
    std::atomic<bool> busy{false};
    in_parallel(2, [&](int t) {
      if (t == 0) {
        Attend attend({seq}, {400}, 3);
        td_status status = attend.run(rt);
        busy = true;
        while (status == TD_OK) status = attend.run(rt);
        if (status != TD_ESTATE) wrong.fetch_add(1);
        return;
      }
      while (!busy) std::this_thread::yield();
      td_status status = TD_ESTATE;
      while ((status = td_seq_destroy(rt, seq)) == TD_ESTATE) {
        if (std::string(td_last_error()).find("is in use by another call") == std::string::npos) wrong.fetch_add(1);
        ++refused;
        std::this_thread::yield();
      }
      if (status != TD_OK) wrong.fetch_add(1);
    });
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(td_seq_destroy(rt, seq), TD_ESTATE);
  }
  EXPECT_GT(refused, 0);
}

TEST(ThreadsCApi, OneOfTwoDestroysSucceeds) {
  const Rt rt(config());
  for (int round = 0; round < 500; ++round) {
    const td_seq seq = create(rt);
    std::atomic<int> destroyed{0};
    in_parallel(2, [&](int) {
      if (td_seq_destroy(rt, seq) == TD_OK) destroyed.fetch_add(1);
    });
    ASSERT_EQ(destroyed, 1) << "round " << round;
  }
}

TEST(ThreadsCApi, HaveTheirOwnErrorTexts) {
  const Rt rt(config());
  std::atomic<int> wrong{0};
  in_parallel(3, [&](int t) {
    const td_seq missing = 1000 + static_cast<td_seq>(t);
    for (int i = 0; i < 500; ++i) {
      td_seq_destroy(rt, missing);
      if (std::string(td_last_error()).find(std::to_string(missing)) == std::string::npos) wrong.fetch_add(1);
    }
  });
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace c_api
