// A steady decode step allocates nothing: every operator new of the process is counted.
#include <atomic>
#include <cstdlib>
#include <new>

#include <gtest/gtest.h>

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

class SteadyStep : public ::testing::TestWithParam<std::tuple<lsh::SelectorParams, int /*workers*/>> {};

INSTANTIATE_TEST_SUITE_P(Selectors, SteadyStep,
                         ::testing::Combine(::testing::Values(lsh::SelectorParams(lsh::SelectAllParams{}),
                                                              lsh::SelectorParams(lsh::TopKParams{0.1}),
                                                              lsh::SelectorParams(lsh::LshParams{6, 40, 2, 9}),
                                                              lsh::SelectorParams(lsh::SketchParams{}),
                                                              lsh::SelectorParams(lsh::SketchParams{.error = 0.05})),
                                            ::testing::Values(1, 2)));

TEST_P(SteadyStep, AllocatesNothing) {
  Config config;
  config.shape = resolved({1, 4, 2, 64, 64, 0.f, 0.f});
  config.window = {4, 256, DType::f32};
  config.selector = std::get<0>(GetParam());
  config.never_slower = false;
  config.num_workers = std::get<1>(GetParam());
  Runtime runtime(config);
  TokenSource source(runtime.config().shape, 31);
  const std::uint64_t sequence = runtime.create_sequence();
  // The window has just handed over a page, so the next tokens fit into it.
  const auto prompt = source.tokens(4 + 256 + 64 + 1280 + 1);
  append(runtime, sequence, prompt.k, prompt.v);
  auto token = source.tokens(1);
  auto q = source.queries(1);
  std::vector<float> out(4 * 64), lse(4);
  const std::int64_t one = 1;
  AppendRequest appended;
  appended.sequences = {&sequence, 1};
  appended.num_tokens = {&one, 1};
  appended.kv = {dense_view(std::as_const(token.k).data(), DType::f32, 1, 2, 64),
                 dense_view(std::as_const(token.v).data(), DType::f32, 1, 2, 64)};
  AttendRequest attended;
  attended.sequences = {&sequence, 1};
  attended.num_queries = {&one, 1};
  attended.q = dense_view(std::as_const(q).data(), DType::f32, 1, 4, 64);
  attended.out = dense_view(out.data(), DType::f32, 1, 4, 64);
  attended.lse = lse.data();
  constexpr int kWarmUp = 40, kSteps = 56;  // calibrated after 32 steps; the window's free slots
  int allocating_steps = 0;
  for (int step = 0; step < kSteps; ++step) {
    // Other queries select other numbers of rows: buffers reach their size over the first steps.
    for (float& x : q) x = -x * 1.01f;
    const long before = allocations.load();
    runtime.append(appended);
    runtime.attend(attended);
    if (step >= kWarmUp && allocations.load() != before) ++allocating_steps;
  }
  // With several workers, one that first gets a task late brings up its own scratch then, in a step or a few.
  EXPECT_LE(allocating_steps, std::get<1>(GetParam()) == 1 ? 0 : (kSteps - kWarmUp) / 2);
  EXPECT_GT(runtime.query_sequence(sequence, 0).host_rows, 600);
  EXPECT_GT(allocations.load(), 100);  // the counter is in the way of everything
}

}  // namespace
}  // namespace tandem::testing
