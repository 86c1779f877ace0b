// The runtime on other devices than its own: one that does everything as late as it may, and one that fails.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "runtime/base/error.h"
#include "runtime/c_api_handle.h"
#include "tandem/tandem.hpp"
#include "tests/support/deferred_device.h"
#include "tests/support/forwarding_device.h"
#include "tests/support/runtime_driver.h"
#include "tests/support/stream_epochs.h"

namespace tandem::testing {
namespace {

Config config_with(const lsh::SelectorParams& selector, int workers) {
  Config config;
  config.shape = resolved({2, 4, 2, 32, 24, 0.f, 0.f});
  config.window = {4, 64, DType::f16};
  config.host_dtype = DType::bf16;
  config.selector = selector;
  config.never_slower = false;
  config.num_workers = workers;
  return config;
}

/// Everything that a sequence goes through: prefill in chunks, steps, drafts that are dropped, forks, batches.
std::vector<float> life_of_sequences(Runtime& runtime) {
  TokenSource source(runtime.config().shape, 5);
  std::vector<float> outs;
  const auto keep = [&](const Attended& attended) {
    outs.insert(outs.end(), attended.out.begin(), attended.out.end());
    outs.insert(outs.end(), attended.lse.begin(), attended.lse.end());
  };
  const std::uint64_t a = runtime.create_sequence();
  std::uint64_t b = 0;
  for (int round = 0; round < 3; ++round) {
    for (std::int32_t layer = 0; layer < runtime.config().shape.num_layers; ++layer) {
      const auto prompt = source.tokens(600);
      append(runtime, a, prompt.k, prompt.v, layer);
      keep(attend(runtime, a, 70, source.queries(70), {.layer = layer, .exact = true}));
      keep(attend(runtime, a, 2, source.queries(2), {.layer = layer}));
    }
    if (round == 0) b = runtime.fork_sequence(a, 501, std::nullopt);
    if (round == 1) runtime.truncate_sequence(a, 1003);
    const auto next = source.tokens(1);
    for (std::int32_t layer = 0; layer < runtime.config().shape.num_layers; ++layer) {
      append(runtime, a, next.k, next.v, layer);
      append(runtime, b, next.k, next.v, layer);
      keep(attend(runtime, {a, b}, {1, 1}, source.queries(2), {.layer = layer}));
    }
  }
  return outs;
}

std::optional<ErrorCode> code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return std::nullopt;
}

class Devices : public ::testing::TestWithParam<lsh::SelectorParams> {};

INSTANTIATE_TEST_SUITE_P(Selectors, Devices,
                         ::testing::Values(lsh::SelectorParams(lsh::SelectAllParams{}),
                                           lsh::SelectorParams(lsh::TopKParams{0.1}),
                                           lsh::SelectorParams(lsh::LshParams{6, 40, 2, 9}),
                                           lsh::SelectorParams(lsh::SketchParams{.budget = 0.1}),
                                           lsh::SelectorParams(lsh::SketchParams{.error = 0.2})));

TEST_P(Devices, ADeviceThatWorksLaterGivesTheSameBits) {
  Runtime plain(config_with(GetParam(), 1));
  const auto expected = life_of_sequences(plain);
  for (const int workers : {1, 3}) {
    Runtime deferred(config_with(GetParam(), workers), gpu::device_maker(gpu::DeviceKind::deferred));
    EXPECT_EQ(life_of_sequences(deferred), expected) << workers << " workers";
  }
}

/// A runtime on a device that works later, and that device.
struct Deferred {
  explicit Deferred(const Config& config)
      : runtime(config, [this](const auto& kernels, const auto& topology, auto& ledger, const auto& /*params*/) {
          auto made = std::make_unique<gpu::DeferredDevice>(kernels, topology, ledger);
          device = made.get();
          return made;
        }) {}
  gpu::DeferredDevice* device = nullptr;
  Runtime runtime;
};

TEST_P(Devices, AllWindowsOfAStepAreLaunchedOnceAndWaitedForOnce) {
  Deferred run(config_with(GetParam(), 3));
  TokenSource source(run.runtime.config().shape, 8);
  std::vector<std::uint64_t> sequences;
  for (int s = 0; s < 3; ++s) {
    sequences.push_back(run.runtime.create_sequence());
    const auto prompt = source.tokens(900);
    append(run.runtime, sequences.back(), prompt.k, prompt.v);
  }
  const auto calls_of = [&](const std::vector<std::int64_t>& counts, const AttendOptions& options) {
    std::int64_t queries = 0;
    for (const std::int64_t count : counts) queries += count;
    const int batches = run.device->batches(), waits = run.device->waits();
    attend(run.runtime, sequences, counts, source.queries(queries), options);
    return std::pair(run.device->batches() - batches, run.device->waits() - waits);
  };
  const std::pair once(1, 1), never(0, 0);
  EXPECT_EQ(calls_of({1, 1, 1}, {}), once);
  EXPECT_EQ(calls_of({300, 1, 70}, {.exact = true}), once);
  EXPECT_EQ(calls_of({64, 64, 64}, {}), once);
  EXPECT_EQ(calls_of({1, 1, 1}, {.use_host = false}), once);
  EXPECT_EQ(calls_of({1, 1, 1}, {.use_window = false}), never);
}

TEST(Devices, AppendsWaitOnceForThePagesOfAllHeadsAndNotAtAllWithoutOne) {
  Deferred run(config_with(lsh::SelectAllParams{}, 2));  // the window has room for 4 + 128
  TokenSource source(run.runtime.config().shape, 8);
  const std::vector<std::uint64_t> sequences{run.runtime.create_sequence(), run.runtime.create_sequence()};
  const auto waits_for = [&](std::int64_t tokens) {
    const int waits = run.device->waits();
    for (const std::uint64_t sequence : sequences) {
      const auto added = source.tokens(tokens);
      append(run.runtime, sequence, added.k, added.v, 0);
    }
    return run.device->waits() - waits;
  };
  EXPECT_EQ(waits_for(132), 0);
  EXPECT_EQ(waits_for(1), 2);
  for (int i = 0; i < 63; ++i) EXPECT_EQ(waits_for(1), 0);
  EXPECT_EQ(waits_for(1), 2);
  EXPECT_EQ(waits_for(640), 2) << "a long prompt's pages leave together";
}

/// The memory of a step belongs to the device until it has been waited for, also where the host tier fails meanwhile.
TEST(Devices, AStepThatFailsWaitsForItsWindows) {
  Config config = config_with(lsh::LshParams{6, 40, 2, 9}, 3);
  bool failed = false;
  for (config.host_memory_bytes = 1 << 18; !failed; config.host_memory_bytes += 1 << 16) {
    Deferred run(config);
    TokenSource source(config.shape, 10);
    const auto prompt = source.tokens(900);
    const auto q = source.queries(1);
    std::uint64_t sequence = 0;
    const auto appended = code_of([&] {
      sequence = run.runtime.create_sequence();
      append(run.runtime, sequence, prompt.k, prompt.v);
    });
    if (appended == ErrorCode::out_of_memory) continue;
    const int batches = run.device->batches(), waits = run.device->waits();
    const auto attended = code_of([&] { attend(run.runtime, sequence, 1, q); });
    EXPECT_EQ(run.device->batches() - batches, 1);
    EXPECT_EQ(run.device->waits() - waits, 1);
    ASSERT_EQ(attended, ErrorCode::out_of_memory) << "no limit lets tokens in and keeps their index out";
    failed = true;
  }
}

/// Fails at the operation that `left` counts down to.
class FailingDevice final : public gpu::ForwardingDevice {
 public:
  FailingDevice(const cpu::Kernels& kernels, const numa::Topology& topology, numa::MemoryLedger& ledger,
                std::atomic<int>& left)
      : ForwardingDevice(kernels, topology, ledger), left_(left) {}

 private:
  void begin() override {
    if (left_.fetch_sub(1) <= 1) fail(ErrorCode::device_lost, "device 0: an operation failed");
  }
  std::atomic<int>& left_;
};

/// Never ends the windows of a step that begins while it is stuck.
class StuckDevice final : public gpu::ForwardingDevice {
 public:
  StuckDevice(const cpu::Kernels& kernels, const numa::Topology& topology, numa::MemoryLedger& ledger,
              const gpu::DeviceParams& params, const std::atomic<bool>& stuck)
      : ForwardingDevice(kernels, topology, ledger), timeout_(params.timeout), stuck_(stuck) {}

  [[nodiscard]] std::string name() const override { return "stuck"; }
  void window_attention(const gpu::WindowAttention* batch, std::int64_t count, gpu::Stream stream) override {
    const std::int64_t epoch = epochs_.launch();
    if (stuck_) return;
    ForwardingDevice::window_attention(batch, count, stream);
    epochs_.finish(epoch);
  }
  void wait(gpu::Stream stream) override {
    std::unique_lock lock(mutex_);
    const auto done = [this] { return epochs_.finished() == epochs_.launched(); };
    if (!finished_.wait_for(lock, timeout_, done)) gpu::fail_overdue(name(), stream, epochs_, timeout_);
  }

 private:
  std::chrono::milliseconds timeout_;
  const std::atomic<bool>& stuck_;
  gpu::StreamEpochs epochs_;
  std::mutex mutex_;
  std::condition_variable finished_;
};

/// Everything that can be asked of a runtime without a device is refused, but for giving back.
void expect_closed(Runtime& runtime, std::uint64_t sequence) {
  TokenSource source(runtime.config().shape, 7);
  const auto token = source.tokens(1);
  const auto q = source.queries(1);
  EXPECT_EQ(code_of([&] { attend(runtime, sequence, 1, q); }), ErrorCode::invalid_state);
  EXPECT_EQ(code_of([&] { append(runtime, sequence, token.k, token.v); }), ErrorCode::invalid_state);
  EXPECT_EQ(code_of([&] { runtime.truncate_sequence(sequence, 10); }), ErrorCode::invalid_state);
  EXPECT_EQ(code_of([&] { (void)runtime.fork_sequence(sequence, -1, std::nullopt); }), ErrorCode::invalid_state);
  EXPECT_EQ(code_of([&] { (void)runtime.create_sequence(); }), ErrorCode::invalid_state);
  EXPECT_EQ(code_of([&] { (void)runtime.query_sequence(sequence, 0); }), ErrorCode::invalid_state);
  const std::int64_t before = runtime.ledger().used_bytes();
  runtime.destroy_sequence(sequence);
  EXPECT_LT(runtime.ledger().used_bytes(), before);
}

/// A step launches, then waits: at the end, or in a task that is to meet an error.
TEST_P(Devices, ALostDeviceClosesTheRuntime) {
  constexpr int kNever = 1 << 30;
  constexpr int kLaunch = 1, kWait = 2;
  for (const int failing : {kLaunch, kWait}) {
    SCOPED_TRACE(failing == kLaunch ? "launch" : "wait");
    std::atomic<int> left = kNever;
    const Config config = config_with(GetParam(), 3);
    Runtime runtime(config, [&left](const auto& kernels, const auto& topology, auto& ledger, const auto& /*params*/) {
      return std::make_unique<FailingDevice>(kernels, topology, ledger, left);
    });
    TokenSource source(config.shape, 6);
    const auto prompt = source.tokens(1500);
    const std::uint64_t sequence = runtime.create_sequence();
    for (std::int32_t layer = 0; layer < config.shape.num_layers; ++layer)
      append(runtime, sequence, prompt.k, prompt.v, layer);
    EXPECT_NO_THROW(attend(runtime, sequence, 64, source.queries(64)));
    left = failing;
    EXPECT_EQ(code_of([&] { attend(runtime, sequence, 64, source.queries(64)); }), ErrorCode::device_lost);
    left = kNever;
    expect_closed(runtime, sequence);
  }
}

/// Through the C interface, whose statuses are what an engine sees.
TEST(StuckDevice, IsGivenUp) {
  std::atomic<bool> stuck = false;
  Config config = config_with(lsh::SelectAllParams{}, 3);
  config.device_timeout_ms = 40;
  auto* rt =
      new td_rt{Runtime(config, [&stuck](const auto& kernels, const auto& topology, auto& ledger, const auto& params) {
        return std::make_unique<StuckDevice>(kernels, topology, ledger, params, stuck);
      })};
  TokenSource source(config.shape, 9);
  const auto prompt = source.tokens(200);
  const auto q = source.queries(1);
  std::vector<float> out(4 * 24);
  const td_seq sequence = rt->runtime.create_sequence();  // call 1
  append(rt->runtime, sequence, prompt.k, prompt.v);      // call 2
  const std::int64_t one = 1;
  auto args = td::make<td_attend_args>();
  args.parts = TD_PART_ALL;
  args.num_seqs = 1;
  args.seqs = &sequence;
  args.num_queries = &one;
  args.q = td::tensor(q.data(), TD_F32, 1, 4, 32);
  args.out = td::tensor(out.data(), TD_F32, 1, 4, 24);
  EXPECT_EQ(td_attend(rt, &args), TD_OK) << td_last_error();
  stuck = true;
  EXPECT_EQ(td_attend(rt, &args), TD_EDEVICE);
  EXPECT_STREQ(td_last_error(),
               "call 4 of this runtime: stuck: stream 0 has not finished within 40 ms (device_timeout_ms): "
               "2 operations launched, 1 finished");
  EXPECT_EQ(td_attend(rt, &args), TD_ESTATE);
  EXPECT_EQ(td_seq_destroy(rt, sequence), TD_OK) << td_last_error();
  td_destroy(rt);
}

}  // namespace
}  // namespace tandem::testing
