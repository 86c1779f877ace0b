// Runtimes on a CUDA device that attends the host rows of long chunks.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "cuda_emulator/emulator.h"
#include "cuda_runtime_api.h"
#include "gpu/cuda/row_streaming.h"
#include "runtime/base/log.h"
#include "runtime/streamed_tasks.h"
#include "tests/support/merging_driver.h"
#include "tests/support/merging_source.h"
#include "tests/support/runtime_driver.h"

namespace tandem::testing {
namespace {

constexpr std::int64_t kChunk = 200;

Config config_of(const AttentionShape& shape, DType host_dtype, const std::string& device = "cuda", int workers = 2) {
  Config config;
  config.shape = resolved(shape);
  config.window = {4, 64, DType::f32};
  config.host_dtype = host_dtype;
  config.num_workers = workers;
  config.device = device;
  config.device_timeout_ms = 120'000;  // emulated kernels take their time, above all with sanitizers
  return config;
}

constexpr AttentionShape kShape{1, 4, 2, 32, 32, 0.f, 0.f};

double bound_of(DType dtype) { return dtype == DType::bf16 ? 3e-5 : 5e-6; }

/// A sequence that is filled chunk by chunk.
struct Filled {
  explicit Filled(const Config& config, std::uint64_t seed = 3)
      : runtime(config),
        source(runtime.config().shape, seed, config.host_dtype),
        reference(runtime.config().shape),
        sequence(runtime.create_sequence()) {}

  void append(std::int64_t tokens) {
    const auto t = source.tokens(tokens);
    testing::append(runtime, sequence, t.k, t.v);
    reference.append(t.k, t.v);
  }
  Attended attend(std::int64_t count, const AttendOptions& options = {.exact = true}) {
    q = source.queries(count);
    return testing::attend(runtime, sequence, count, q, options);
  }
  [[nodiscard]] WorstError error(const Attended& attended, const ReferenceRule& rule = {}) const {
    const AttentionShape& shape = runtime.config().shape;
    return worst_error(attended, q, static_cast<std::int64_t>(attended.lse.size()) / shape.num_q_heads, reference,
                       shape, rule);
  }

  Runtime runtime;
  TokenSource source;
  ReferenceSequence reference;
  std::uint64_t sequence;
  std::vector<float> q;
};

class StreamedPrefill : public ::testing::Test {
 protected:
  void SetUp() override { emulator::reset(); }
  void TearDown() override {
    set_log_hook({});
    EXPECT_EQ(emulator::take_fault(), "");
    EXPECT_EQ(emulator::check_leaks(), "");
  }
};

TEST_F(StreamedPrefill, WindowAndStreamedRowsAreDenseAttention) {
  for (const AttentionShape& shape :
       {kShape, AttentionShape{1, 5, 1, 80, 48, 0.f, 0.f}, AttentionShape{1, 8, 4, 64, 64, 0.f, 12.f}}) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      Filled f(config_of(shape, dtype));
      const std::int64_t row_bytes = cpu::RowLayout::of(f.runtime.config().shape, dtype).row_bytes;
      for (int chunk = 0; chunk < 3; ++chunk) {
        f.append(150);
        const Attended attended = f.attend(150);
        const WorstError worst = f.error(attended);
        EXPECT_LT(worst.out, bound_of(dtype)) << to_string(dtype);
        EXPECT_LT(worst.lse, 1e-4);
        const std::int64_t rows = f.runtime.query_sequence(f.sequence, 0).host_rows;
        EXPECT_EQ(attended.stats.bytes_streamed, rows * shape.num_kv_heads * row_bytes) << chunk;
      }
    }
  }
}

TEST_F(StreamedPrefill, FollowsTheRulesOfACall) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Filled f(config_of(kShape, dtype));
    f.append(900);
    for (const std::int64_t sliding : {0, 1, 150, 700}) {
      AttendOptions options{.exact = true};
      options.rule = {sliding, {0.01f, 0.f, 0.03f, 0.005f}, {0.5f, -1.f, 2.f, 0.f}};
      const Attended attended = f.attend(kChunk, options);
      EXPECT_LT(f.error(attended, options.rule).out, bound_of(dtype)) << sliding;
      // A query that sees itself alone sees a host row where the chunk has pushed it out of the window.
      EXPECT_GE(attended.stats.bytes_streamed, sliding > 1 ? 1 : 0) << sliding;
    }
  }
}

TEST_F(StreamedPrefill, PartsAddUp) {
  Filled f(config_of(kShape, DType::bf16));
  f.append(700);
  const auto q = f.source.queries(kChunk);
  const auto run = [&](bool window, bool host) {
    return attend(f.runtime, f.sequence, kChunk, q, {.use_window = window, .use_host = host, .exact = host});
  };
  const Attended all = run(true, true), window = run(true, false), host = run(false, true);
  EXPECT_EQ(window.stats.bytes_streamed, 0);
  EXPECT_EQ(host.stats.bytes_streamed, all.stats.bytes_streamed);
  Attended sum = window;
  const std::int64_t rows = kChunk * kShape.num_q_heads;
  merge_state({sum.out.data(), sum.lse.data(), rows, kShape.head_dim_v},
              {host.out.data(), host.lse.data(), rows, kShape.head_dim_v});
  EXPECT_EQ(sum.out, all.out);
  EXPECT_EQ(sum.lse, all.lse);
}

/// Few queries stay with the workers, and many of them go to the device, by a constant.
TEST_F(StreamedPrefill, TheNumberOfQueriesDecides) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::int8, DType::k8v4}) {
    Filled f(config_of(kShape, dtype));
    f.append(600);
    const std::int64_t least = least_streamed_vectors(dtype) / 2;  // 2 query heads of a KV head
    EXPECT_EQ(f.attend(least - 1).stats.bytes_streamed, 0);
    EXPECT_EQ(f.attend(least).stats.bytes_streamed > 0, dtype != DType::int8 && dtype != DType::k8v4);
    EXPECT_EQ(f.attend(least, {.exact = true}).stats.rows_host, f.attend(least, {.exact = true}).stats.rows_gathered);
  }
  Filled host(config_of(kShape, DType::f32, "host"));
  host.append(600);
  EXPECT_EQ(host.attend(400).stats.bytes_streamed, 0);
}

/// Queries that select stay with the workers; those that are exact because it does not pay may be streamed.
TEST_F(StreamedPrefill, SelectedRowsAreNotStreamed) {
  Config config = config_of(kShape, DType::bf16);
  config.selector = lsh::LshParams{6, 40, 2, 9};
  config.never_slower = false;
  Filled f(config);
  f.append(600);
  EXPECT_EQ(f.attend(kChunk, {}).stats.bytes_streamed, 0);
  EXPECT_GT(f.attend(kChunk).stats.bytes_streamed, 0);
  EXPECT_LT(f.error(f.attend(kChunk)).out, bound_of(DType::bf16));
}

TEST_F(StreamedPrefill, BitsDependOnTheSequenceAlone) {
  std::vector<float> expected;
  for (const int workers : {1, 3}) {
    Filled f(config_of(kShape, DType::bf16, "cuda", workers));
    f.append(800);
    const auto q = f.source.queries(kChunk);
    const Attended alone = attend(f.runtime, f.sequence, kChunk, q, {.exact = true});
    if (expected.empty()) expected = alone.out;
    EXPECT_EQ(alone.out, expected) << workers;
    // Beside a step of one token and another chunk.
    std::vector<std::uint64_t> sequences;
    for (const std::int64_t tokens : {500, 700}) {
      sequences.push_back(f.runtime.create_sequence());
      const auto t = f.source.tokens(tokens);
      append(f.runtime, sequences.back(), t.k, t.v);
    }
    auto all = f.source.queries(1);
    all.insert(all.end(), q.begin(), q.end());
    const auto others = f.source.queries(150);
    all.insert(all.end(), others.begin(), others.end());
    const Attended among =
        attend(f.runtime, {sequences[0], f.sequence, sequences[1]}, {1, kChunk, 150}, all, {.exact = true});
    const std::int64_t width = kShape.num_q_heads * kShape.head_dim_v;
    EXPECT_EQ(rows_of(among.out, 1, kChunk, width), expected) << workers;
    // And the first queries of the chunk, as long as they are enough.
    const auto fewer = rows_of(q, kChunk - 100, 100, kShape.num_q_heads * kShape.head_dim_k);
    EXPECT_EQ(attend(f.runtime, f.sequence, 100, fewer, {.exact = true}).out,
              rows_of(expected, kChunk - 100, 100, width));
  }
}

/// Whatever the window's policy leaves to the host tier: rows that it keeps take no part, merged ones do.
TEST_F(StreamedPrefill, EqualsTheHostWhateverTheWindowKeeps) {
  const auto outputs = [&](const std::string& device, std::int64_t& bytes) {
    Config config = config_of({1, 4, 2, 32, 32, 0.f, 0.f}, DType::f32, device);
    config.window.local_tokens = 192;
    config.window.policy = gpu::HeavyHitters{40};
    Filled f(config);
    std::vector<float> outs;
    for (int round = 0; round < 4; ++round) {
      f.append(180);
      const Attended attended = f.attend(180);
      EXPECT_LT(f.error(attended).out, 5e-6) << device << " " << round;
      outs.insert(outs.end(), attended.out.begin(), attended.out.end());
      bytes += attended.stats.bytes_streamed;
    }
    return outs;
  };
  std::int64_t streamed = 0, none = 0;
  const auto expected = outputs("host", none), actual = outputs("cuda", streamed);
  EXPECT_EQ(none, 0);
  EXPECT_GT(streamed, 0);
  for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(actual[i], expected[i], 5e-6) << i;
}

TEST_F(StreamedPrefill, MergedEntriesAreAttended) {
  const MergingCase c{shape_of(8, 1, 64), gpu::DmcSource::last_neuron, 1, 48, {0.3}};
  std::int64_t streamed = 0;
  std::vector<std::vector<float>> outs;
  for (const std::string device : {"host", "cuda"}) {
    Config config = tandem::testing::config_of(c, true);
    config.device = device;
    Runtime runtime(config);
    MergingSource source(c.shape, c.form, c.merging, 61);
    const std::uint64_t s = runtime.create_sequence();
    outs.emplace_back();
    for (int chunk = 0; chunk < 8; ++chunk) {
      append(runtime, s, source.tokens(c.local));
      const Attended attended = attend(runtime, s, c.local, source.queries(c.local));
      outs.back().insert(outs.back().end(), attended.out.begin(), attended.out.end());
      streamed += attended.stats.bytes_streamed;
    }
  }
  EXPECT_GT(streamed, 0);
  for (std::size_t i = 0; i < outs[0].size(); ++i) ASSERT_NEAR(outs[1][i], outs[0][i], 1e-5) << i;
}

TEST_F(StreamedPrefill, SeveralThreadsAtOnce) {
  Config config = config_of(kShape, DType::bf16, "cuda", 3);
  Runtime runtime(config);
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      TokenSource source(kShape, 20 + t, DType::bf16);
      ReferenceSequence reference(kShape);
      const std::uint64_t s = runtime.create_sequence();
      for (int round = 0; round < 3; ++round) {
        const auto tokens = source.tokens(250);
        append(runtime, s, tokens.k, tokens.v);
        reference.append(tokens.k, tokens.v);
        const auto q = source.queries(150);
        const Attended attended = attend(runtime, s, 150, q, {.exact = true});
        EXPECT_LT(worst_error(attended, q, 150, reference, kShape).out, 3e-5);
        append(runtime, s, source.tokens(0).k, {});
        const auto one = source.queries(1);
        EXPECT_LT(worst_error(attend(runtime, s, 1, one, {}), one, 1, reference, kShape).out, 5e-6);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

/// Who waits for its turn to stream must not keep a worker's place from whoever streams, and splits its copying.
TEST_F(StreamedPrefill, CallsThatStreamAloneAndCallsWithOtherWorkAtOnce) {
  Runtime runtime(config_of(kShape, DType::bf16, "cuda", 2));
  const auto filled = [&](TokenSource& source, std::int64_t tokens) {
    const std::uint64_t sequence = runtime.create_sequence();
    const auto added = source.tokens(tokens);
    append(runtime, sequence, added.k, added.v);
    return sequence;
  };
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      TokenSource source(kShape, 30 + t, DType::bf16);
      const std::uint64_t chunk = filled(source, 400), step = filled(source, 400);
      for (int round = 0; round < 3; ++round) {
        const Attended attended = t < 2
                                      ? attend(runtime, chunk, 100, source.queries(100), {.exact = true})
                                      : attend(runtime, {chunk, step}, {100, 1}, source.queries(101), {.exact = true});
        EXPECT_GT(attended.stats.bytes_streamed, 0);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(StreamedPrefill, StreamsMayBeLate) {
  emulator::Config machine;
  machine.progress = emulator::Progress::late;
  machine.late_after_ms = 1;
  machine.max_delay_us = 100;
  emulator::reset(machine);
  Filled f(config_of(kShape, DType::bf16));
  f.append(900);
  for (int round = 0; round < 3; ++round) EXPECT_LT(f.error(f.attend(kChunk)).out, 3e-5);
}

/// Without memory for it the workers attend, and say so once.
TEST_F(StreamedPrefill, WithoutMemoryTheWorkersDoIt) {
  for (const char* call : {"cudaMalloc", "cudaHostAlloc"}) {
    emulator::reset();
    std::vector<std::string> warnings;
    set_log_hook([&](LogLevel level, const std::string& message) {
      if (level == LogLevel::warning) warnings.push_back(message);
    });
    Filled f(config_of(kShape, DType::bf16));
    f.append(600);
    emulator::fail_next(call, cudaErrorMemoryAllocation);
    for (int round = 0; round < 3; ++round) {
      const Attended attended = f.attend(kChunk);
      EXPECT_LT(f.error(attended).out, 5e-6);
      EXPECT_EQ(attended.stats.bytes_streamed, 0);
    }
    EXPECT_THAT(warnings, ::testing::ElementsAre(::testing::HasSubstr("left to the workers")));
  }
}

/// Memory that is refused at any point of a call: it fails and changes nothing, or the workers have done their part.
TEST_F(StreamedPrefill, WhateverIsRefusedNothingIsLost) {
  int failed = 0, attended = 0;
  for (const int after : {0, 1, 2, 3, 5}) {
    emulator::reset();
    Filled f(config_of(kShape, DType::bf16));
    f.append(400);
    emulator::fail_next("cudaMalloc", cudaErrorMemoryAllocation, after);
    try {
      EXPECT_LT(f.error(f.attend(kChunk)).out, 3e-5);
      ++attended;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
      ++failed;
    }
    emulator::reset();
    EXPECT_LT(f.error(f.attend(kChunk)).out, 3e-5) << after;
  }
  EXPECT_GT(failed, 0);
  EXPECT_GT(attended, 0);
}

TEST_F(StreamedPrefill, DeviceMemoryIsAConstant) {
  const auto used = [] {
    std::size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    return static_cast<std::int64_t>(total - free);
  };
  Config config = config_of(kShape, DType::bf16);
  Filled f(config);
  f.append(700);
  f.attend(kChunk, {.use_host = false});  // what windows need of such a batch
  const std::int64_t before = used();
  f.attend(kChunk, {.use_window = false, .exact = true});
  EXPECT_EQ(used() - before, gpu::cuda::StreamingSizes{}.device_bytes());
  EXPECT_EQ((used() - before) >> 20, 33);
  f.append(1000);
  const std::int64_t later = used();
  f.attend(kChunk, {.use_window = false, .exact = true});
  EXPECT_EQ(used(), later);
}

TEST_F(StreamedPrefill, ALostDeviceClosesTheRuntime) {
  for (int after = 0; after < 6; ++after) {
    emulator::reset();
    Filled f(config_of(kShape, DType::bf16));
    f.append(600);
    f.attend(kChunk);
    emulator::fail_next("kernel", cudaErrorIllegalAddress, after);
    try {
      f.attend(kChunk, {.use_window = after % 2 == 0, .exact = true});
      if (after < 3) ADD_FAILURE() << after;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::device_lost);
      EXPECT_THAT(message_of([&] { f.attend(1); }), ::testing::HasSubstr("the runtime is closed"));
    }
    (void)emulator::take_fault();
  }
  emulator::reset();
}

TEST_F(StreamedPrefill, TheTimelineShowsTheStream) {
  Filled f(config_of(kShape, DType::bf16));
  f.append(600);
  const auto path = (std::filesystem::path(::testing::TempDir()) / "tandem-streamed-timeline.json").string();
  f.runtime.timeline().start(path, 0);
  const Attended attended = f.attend(kChunk);
  f.runtime.timeline().stop(f.runtime.device().name());
  std::set<std::string> names;
  for (const auto& event : nlohmann::json::parse(std::ifstream(path))) {
    names.insert(event.at("name").get<std::string>());
    if (event.at("name") != "stream") continue;
    EXPECT_EQ(event.at("args").at("bytes").get<std::int64_t>(), attended.stats.bytes_streamed);
  }
  std::filesystem::remove(path);
  EXPECT_THAT(names, ::testing::IsSupersetOf({"stream", "stream wait", "merge"}));
  EXPECT_GT(attended.stats.trace[Stage::attend].us, 0);
  EXPECT_GE(attended.stats.trace[Stage::attend].bytes, attended.stats.bytes_streamed);
}

/// Its memory is left behind, so it is no test of StreamedPrefill.
TEST(StreamedWatchdog, ADeviceThatHangsIsGivenUp) {
  emulator::reset();
  Config config = config_of(kShape, DType::bf16);
  config.device_timeout_ms = 3000;
  Filled f(config);
  f.append(600);
  emulator::Config machine;
  machine.max_delay_us = 60'000'000;
  emulator::reset(machine);
  const auto begin = std::chrono::steady_clock::now();
  const std::string message = message_of([&] { f.attend(kChunk, {.use_window = false, .exact = true}); });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
  EXPECT_THAT(message, ::testing::ContainsRegex("epoch [0-9]+ within 3000 ms .*: it is at [0-9]+, .* up to [0-9]+"));
  EXPECT_THAT(message_of([&] { f.attend(1); }), ::testing::HasSubstr("the runtime is closed"));
}

}  // namespace
}  // namespace tandem::testing
