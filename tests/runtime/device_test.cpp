// The runtime on other devices than its own: one that does everything as late as it may, and one that fails.
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "runtime/base/error.h"
#include "tests/support/deferred_device.h"
#include "tests/support/runtime_driver.h"

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

Runtime::MakeDevice maker_of(gpu::DeviceKind kind) {
  return [kind](const cpu::Kernels& kernels, const numa::Topology& topology, numa::MemoryLedger& ledger) {
    return gpu::make_device(kind, kernels, topology, ledger);
  };
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
    Runtime deferred(config_with(GetParam(), workers), maker_of(gpu::DeviceKind::deferred));
    EXPECT_EQ(life_of_sequences(deferred), expected) << workers << " workers";
  }
}

/// A runtime on a device that works later, and that device.
struct Deferred {
  explicit Deferred(const Config& config)
      : runtime(config, [this](const auto& kernels, const auto& topology, auto& ledger) {
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

/// Fails at the operation that `left` counts down to.
class FailingDevice final : public gpu::Device {
 public:
  FailingDevice(const cpu::Kernels& kernels, const numa::Topology& topology, numa::MemoryLedger& ledger,
                std::atomic<int>& left)
      : host_(kernels, topology, ledger), left_(left) {}

  [[nodiscard]] std::string name() const override { return "failing"; }
  [[nodiscard]] bool is_asynchronous() const noexcept override { return true; }
  void prepare(const cpu::RowLayout& layout, const cpu::BlockCodec* codec) override { host_.prepare(layout, codec); }
  std::byte* allocate(std::int64_t bytes, int node) override { return host_.allocate(bytes, node); }
  void release(std::byte* data, std::int64_t bytes) noexcept override { host_.release(data, bytes); }
  void copy(std::byte* target, const std::byte* source, std::int64_t bytes, gpu::Stream stream) override {
    count_down();
    host_.copy(target, source, bytes, stream);
  }
  void write_rows(const gpu::WindowView& window, std::int64_t first, const KvView& host_kv, std::int64_t head,
                  gpu::Stream stream) override {
    count_down();
    host_.write_rows(window, first, host_kv, head, stream);
  }
  void encode_block(const gpu::WindowView& window, std::int64_t first, gpu::Stream stream) override {
    count_down();
    host_.encode_block(window, first, stream);
  }
  void read_rows(const gpu::WindowView& window, std::int64_t first, std::int64_t count,
                 const cpu::RowLayout& host_layout, std::byte* host_rows, gpu::Stream stream) override {
    count_down();
    host_.read_rows(window, first, count, host_layout, host_rows, stream);
  }
  void window_attention(const gpu::WindowAttention* batch, std::int64_t count, gpu::Stream stream) override {
    count_down();
    host_.window_attention(batch, count, stream);
  }
  void wait(gpu::Stream) override { count_down(); }

 private:
  void count_down() {
    if (left_.fetch_sub(1) <= 1) fail(ErrorCode::device_lost, "device 0: an operation failed");
  }
  gpu::HostDevice host_;
  std::atomic<int>& left_;
};

std::optional<ErrorCode> code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return std::nullopt;
}

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
    Runtime runtime(config, [&left](const auto& kernels, const auto& topology, auto& ledger) {
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

}  // namespace
}  // namespace tandem::testing
