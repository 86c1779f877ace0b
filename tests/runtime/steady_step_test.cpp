// A steady decode step allocates nothing: every operator new of the process is counted.
#include <atomic>
#include <cstdlib>
#include <new>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/deferred_device.h"
#include "tests/support/forwarding_device.h"
#include "tests/support/runtime_driver.h"

namespace {

std::atomic<long> allocations{0};

void* counted(std::size_t size, std::size_t alignment) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(std::size_t size) { return counted(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return counted(size, static_cast<std::size_t>(alignment));
}
// std::stable_sort asks for its buffer this way.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return counted(size, alignof(std::max_align_t));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace tandem::testing {
namespace {

class SteadyStep : public ::testing::TestWithParam<
                       std::tuple<lsh::SelectorParams, int /*workers*/, bool /*beside a device, watched*/>> {};

INSTANTIATE_TEST_SUITE_P(Selectors, SteadyStep,
                         ::testing::Combine(::testing::Values(lsh::SelectorParams(lsh::SelectAllParams{}),
                                                              lsh::SelectorParams(lsh::TopKParams{0.1}),
                                                              lsh::SelectorParams(lsh::LshParams{6, 40, 2, 9}),
                                                              lsh::SelectorParams(lsh::SketchParams{}),
                                                              lsh::SelectorParams(lsh::SketchParams{.error = 0.05})),
                                            ::testing::Values(1, 2), ::testing::Bool()));

/// One sequence in one layer, and the calls of a decode step: all of their memory is there before the first one.
struct Stepper {
  static constexpr std::int64_t kQueries = 32;

  explicit Stepper(const Config& config, bool beside = false)
      : runtime(config, beside ? forwarding() : gpu::device_maker(gpu::DeviceKind::host)),
        source(runtime.config().shape, 31),
        sequence(runtime.create_sequence()),
        token(source.tokens(1)),
        q(source.queries(kQueries)),
        out(kQueries * 4 * 64),
        lse(kQueries * 4) {
    appended.sequences = {&sequence, 1};
    appended.num_tokens = attended.num_queries = {&count, 1};
    appended.kv = {dense_view(std::as_const(token.k).data(), DType::f32, 1, 2, 64),
                   dense_view(std::as_const(token.v).data(), DType::f32, 1, 2, 64)};
    attended.lse = lse.data();
  }
  /// Of a device beside the host that allocates nothing itself.
  static Runtime::MakeDevice forwarding() {
    return [](const auto& kernels, const auto& topology, auto& ledger, const auto& /*params*/) {
      return std::make_unique<gpu::ForwardingDevice>(kernels, topology, ledger);
    };
  }
  void attend(std::uint64_t id, std::int64_t queries) {
    // Other queries select other numbers of rows.
    for (float& x : q) x = -x * 1.01f;
    count = queries;
    attended.q = dense_view(std::as_const(q).data(), DType::f32, queries, 4, 64);
    attended.out = dense_view(out.data(), DType::f32, queries, 4, 64);
    attended.sequences = {&id, 1};
    runtime.attend(attended);
  }
  void step(std::int64_t queries) {
    count = 1;
    runtime.append(appended);
    attend(sequence, queries);
  }

  Runtime runtime;
  TokenSource source;
  std::uint64_t sequence;
  TokenSource::Tokens token;
  std::vector<float> q, out, lse;
  std::int64_t count = 1;
  AppendRequest appended;
  AttendRequest attended;
};

/// The same kind of policy, with the most rows that it can take.
lsh::SelectorParams selecting_most(lsh::SelectorParams params) {
  if (auto* top_k = std::get_if<lsh::TopKParams>(&params)) top_k->budget = 0.9;
  if (auto* tables = std::get_if<lsh::LshParams>(&params)) tables->bits_per_table = tables->min_collisions = 1;
  if (auto* sketch = std::get_if<lsh::SketchParams>(&params)) *sketch = {.budget = 0.9};
  return params;
}

TEST_P(SteadyStep, AllocatesNothing) {
  Config config;
  config.shape = resolved({1, 4, 2, 64, 64, 0.f, 0.f});
  config.window = {4, 256, DType::f32};
  config.selector = std::get<0>(GetParam());
  config.never_slower = false;
  config.num_workers = std::get<1>(GetParam());
  Stepper run(config, std::get<2>(GetParam()));
  // The window has just handed over a page, so the next tokens fit into it.
  const auto prompt = run.source.tokens(4 + 256 + 64 + 1280 + 1);
  append(run.runtime, run.sequence, prompt.k, prompt.v);
  // Steps of many queries last long enough for every worker to take some of their tasks and to bring up its buffers:
  // first a fork that selects as many rows as there can be, then the sequence itself, whose appends take the buffers of
  // one worker or another. The window hands over a page meanwhile.
  constexpr int kWarmUp = 64, kSteps = 60;
  run.attend(run.sequence, Stepper::kQueries);
  const std::uint64_t fork = run.runtime.fork_sequence(run.sequence, -1, selecting_most(config.selector));
  for (int i = 0; i < kWarmUp; ++i) run.attend(fork, Stepper::kQueries);
  if (std::get<2>(GetParam())) run.runtime.timeline().start(::testing::TempDir() + "tandem-steady.json", 1 << 14);
  for (int i = 0; i < kWarmUp; ++i) run.step(8);
  int allocating_steps = 0;
  for (int i = 0; i < kSteps; ++i) {
    const long before = allocations.load();
    run.step(1);
    if (allocations.load() != before) ++allocating_steps;
  }
  // One of several workers may only now get a task for which its buffers are too small; they never shrink.
  EXPECT_LE(allocating_steps, std::get<1>(GetParam()) == 1 ? 0 : 3);
  EXPECT_GT(run.runtime.query_sequence(run.sequence, 0).host_rows, 600);
  EXPECT_GT(allocations.load(), 100);  // the counter is in the way of everything
}

struct SteadyWindow {
  const char* name;
  void (*set)(Config&);
};

class SteadyWindows : public ::testing::TestWithParam<std::tuple<SteadyWindow, bool /*host tier*/>> {};

void merge_by(gpu::DmcSource source, Config& config) {
  config.window.merge.emplace();
  config.window.merge->source = source;
  config.rope.theta = 10000;
}

INSTANTIATE_TEST_SUITE_P(
    Policies, SteadyWindows,
    ::testing::Combine(
        ::testing::Values(SteadyWindow{"heavy_hitters",
                                       [](Config& c) {
                                         c.window.policy = gpu::HeavyHitters{64}, c.window.page_tokens = 4;
                                       }},
                          SteadyWindow{"threshold",
                                       [](Config& c) {
                                         c.window.policy = gpu::Threshold{0.f, 64, gpu::ScoreSource::external};
                                         c.window.page_tokens = 1;
                                       }},
                          SteadyWindow{"int8", [](Config& c) { c.window.codec.kind = cpu::CodecKind::int8; }},
                          SteadyWindow{"kivi", [](Config& c) { c.window.codec.kind = cpu::CodecKind::kivi; }},
                          SteadyWindow{"dmc", [](Config& c) { merge_by(gpu::DmcSource::external, c); }},
                          SteadyWindow{"dmc_by_neurons", [](Config& c) { merge_by(gpu::DmcSource::last_neuron, c); }}),
        ::testing::Bool()),
    [](const auto& test) {
      return std::string(std::get<0>(test.param).name) + (std::get<1>(test.param) ? "" : "_alone");
    });

TEST_P(SteadyWindows, AllocateNothing) {
  Config config;
  config.shape = resolved({1, 4, 2, 64, 64, 0.f, 0.f});
  config.window = {4, 128, DType::f32};
  config.window.residual_tokens = 64;
  config.host_tier = std::get<1>(GetParam());
  config.num_workers = 1;
  std::get<0>(GetParam()).set(config);
  Stepper run(config);
  const std::vector<float> scores(2, 1.f), alone(2, -1.f);
  const std::vector<float> q(4 * 64, -4.f);
  if (keep_rule(config.window.policy).scores == gpu::ScoreSource::external) run.appended.keep = scores.data();
  if (config.window.merge && config.window.merge->source == gpu::DmcSource::external) {
    run.appended.merge = alone.data();
    run.appended.importance = scores.data();
  } else if (config.window.merge) {
    run.appended.q = dense_view(q.data(), DType::f32, 1, 4, 64);
  }
  // The host tier takes pages of 64 as they come, which are not counted: between two of them, after many.
  for (int i = 0; i < 1000; ++i) run.step(1);
  const auto host_rows = [&] { return run.runtime.query_sequence(run.sequence, 0).host_rows; };
  const std::int64_t entries = host_rows();
  while (config.host_tier && host_rows() < entries + 64) run.step(1);
  int allocating_steps = 0;
  for (int i = 0; i < 60; ++i) {
    const long before = allocations.load();
    run.step(1);
    if (allocations.load() != before) ++allocating_steps;
  }
  // A page of the host tier may begin within these steps.
  EXPECT_LE(allocating_steps, config.host_tier ? 1 : 0);
}

}  // namespace
}  // namespace tandem::testing
