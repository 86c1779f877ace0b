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

td_selector selector_of(td_selector_kind kind) {
  td_selector selector = lsh_selector();
  selector.kind = kind;
  if (kind == TD_SELECT_TOP_K || kind == TD_SELECT_SKETCH) selector.budget = 0.1;
  return selector;
}

/// Enough rows beside the window, and queries of the same calls, for a sketch.
constexpr std::int64_t kPrompt = 1300;
constexpr std::int64_t kQueries = 40;

td_seq_info info_of(td_rt* rt, td_seq seq) {
  auto info = init<td_seq_info>();
  EXPECT_EQ(td_seq_query(rt, seq, 0, &info), TD_OK) << td_last_error();
  return info;
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
    const std::int64_t length = info_of(rt, seq).length;
    td_seq fork = 0;
    EXPECT_EQ(td_seq_fork(rt, seq, length - 30, nullptr, &fork), TD_OK) << td_last_error();
    fill(rt, fork, 77, seed + 100);
    note(fork, 2);
    EXPECT_EQ(td_seq_truncate(rt, seq, length - 40), TD_OK) << td_last_error();
    note(seq, 1);
    EXPECT_EQ(td_seq_destroy(rt, fork), TD_OK);
    if (step == 3) {  // the rest has an index
      fill(rt, seq, kPrompt, seed + 200);
      note(seq, kQueries);
    }
  }
  EXPECT_EQ(td_seq_destroy(rt, seq), TD_OK);
  return outputs;
}

/// A sequence that grows until the background thread has calibrated its sketch anew: that is due at four times the rows
/// of the first calibration, and takes effect 1,024 rows later.
std::vector<float> growth(td_rt* rt, std::uint32_t seed) {
  const td_seq seq = create(rt);
  fill(rt, seq, kPrompt, seed);
  std::vector<float> outputs = attended(rt, seq, kQueries);
  const td_seq_info first = info_of(rt, seq);
  EXPECT_GE(first.host_rows, 1100);
  EXPECT_GT(first.index_bytes, 0);
  for (std::uint32_t step = 1; info_of(rt, seq).host_rows < 4 * first.host_rows + 1024; ++step) {
    fill(rt, seq, 499, seed + step);
    const auto values = attended(rt, seq, 1);
    outputs.insert(outputs.end(), values.begin(), values.end());
  }
  EXPECT_EQ(td_seq_destroy(rt, seq), TD_OK);
  return outputs;
}

/// The outputs of `work` on four sequences in parallel must be those of one after the other.
template <typename Work>
void expect_bits_of_a_serial_run(const td_selector& selector, const Work& work) {
  constexpr int kThreads = 4;
  std::vector<std::vector<float>> serial, parallel(kThreads);
  {
    const Rt rt(config_with(&selector));
    for (std::uint32_t t = 0; t < kThreads; ++t) serial.push_back(work(rt, 1000 * t));
  }
  const Rt rt(config_with(&selector));
  in_parallel(kThreads,
              [&](int t) { parallel[static_cast<std::size_t>(t)] = work(rt, static_cast<std::uint32_t>(1000 * t)); });
  EXPECT_EQ(parallel, serial);
}

class Threads : public testing::TestWithParam<td_selector_kind> {};

INSTANTIATE_TEST_SUITE_P(CApi, Threads,
                         testing::Values(TD_SELECT_ALL, TD_SELECT_TOP_K, TD_SELECT_LSH, TD_SELECT_SKETCH));

TEST_P(Threads, OnDifferentSequencesGiveTheBitsOfASerialRun) {
  expect_bits_of_a_serial_run(selector_of(GetParam()), life);
}

TEST(ThreadsCApi, ThatShareTheBackgroundThreadGiveTheBitsOfASerialRun) {
  expect_bits_of_a_serial_run(selector_of(TD_SELECT_SKETCH), growth);
}

TEST_P(Threads, OnOneSequenceAreRefusedAndCorruptNothing) {
  const td_selector selector = selector_of(GetParam());
  const Rt rt(config_with(&selector));
  const td_seq seq = create(rt);
  for (std::int64_t i = 0; i < kPrompt; ++i) ASSERT_EQ(Append({seq}, {1}, 7).run(rt), TD_OK);
  ASSERT_EQ(Attend({seq}, {kQueries}, 99).run(rt), TD_OK);
  ASSERT_EQ(info_of(rt, seq).index_bytes > 0, GetParam() == TD_SELECT_LSH || GetParam() == TD_SELECT_SKETCH);
  std::atomic<std::int64_t> appended{kPrompt};
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
  // All tokens are equal, so any selection of them attends to the same value, but for the rounding of long fp32 sums.
  const auto values = attended(rt, seq, 1);
  const Append token({1}, {1}, 7);
  for (std::size_t i = 0; i < kQHeads * kDim; ++i) {
    EXPECT_NEAR(values[i], token.v[i / (kQHeads / kKvHeads * kDim) * kDim + i % kDim], 1e-4);
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
