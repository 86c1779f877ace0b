// Rows of stores that come to the device piece by piece, without a runtime.
#include "gpu/cuda/row_streaming.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <deque>
#include <thread>
#include <vector>

#include "cpu/reference_attention.h"
#include "runtime/base/error.h"
#include "tests/cuda/cuda_test.h"
#include "tests/support/store_fixture.h"

namespace tandem::testing {
namespace {

using namespace gpu::cuda;
using gpu::HandOffKind;
using gpu::HostRowsAttention;

constexpr std::chrono::seconds kTimeout{60};
constexpr std::int64_t kFirstPosition = 4;

AttentionShape shape_of(int group, int dim_k = 32, int dim_v = 32) {
  return resolved({1, group, 1, dim_k, dim_v, 0.f, 0.f});
}

/// Pieces of 256 rows, and passes of few vectors.
StreamingSizes small_sizes(const AttentionShape& shape, DType dtype, std::int64_t vectors = 96) {
  const cpu::RowLayout layout = cpu::RowLayout::of(shape, dtype);
  return {256 * layout.row_bytes, vectors * std::max(layout.padded_k, layout.padded_v), vectors};
}

struct Rule {
  std::int64_t sliding_window = 0;
  bool alibi = false;
  std::vector<std::uint32_t> left_out = {};
};

/// One store, and tasks of 8 queries each of its latest tokens.
class Head {
 public:
  Head(const AttentionShape& shape, DType dtype, std::int64_t rows, std::int64_t queries, Rule rule = {},
       std::int64_t first_query = 0)
      : shape_(shape), rule_(std::move(rule)), fixture_(shape, dtype) {
    CounterRandom random(5, static_cast<std::uint64_t>(rows));
    k_ = representable_normals(random, rows * shape.head_dim_k, dtype);
    v_ = representable_normals(random, rows * shape.head_dim_v, dtype);
    fixture_.append(k_, v_);
    const int group = shape.group_size();
    q_ = representable_normals(random, queries * group * shape.head_dim_k, DType::f32);
    scaled_ = padded_queries(q_, shape.head_dim_k, shape.scale);
    const std::int64_t first = first_query > 0 ? first_query : kFirstPosition + rows;
    for (std::int64_t i = 0; i < queries; ++i) positions_.push_back(first + i);
    for (int h = 0; h < group; ++h) slopes_.push_back(0.02f * static_cast<float>(h + 1));
    out.assign(static_cast<std::size_t>(queries * group * shape.head_dim_v), NAN);
    lse.assign(static_cast<std::size_t>(queries * group), NAN);
  }

  void add_tasks(std::vector<HostRowsAttention>& batch, std::int64_t per_task = 8) {
    const int group = shape_.group_size();
    const auto queries = static_cast<std::int64_t>(positions_.size());
    for (std::int64_t i = 0; i < queries; i += per_task) {
      const std::int64_t count = std::min(per_task, queries - i), vectors = count * group;
      HostRowsAttention task;
      task.store = &fixture_.store;
      task.first_position = kFirstPosition;
      task.left_out = rule_.left_out;
      task.queries = {scaled_.data() + i * group * fixture_.layout.padded_k, positions_.data() + i,
                      static_cast<int>(count), group};
      task.logits = {shape_.softcap, rule_.alibi ? slopes_.data() : nullptr, rule_.sliding_window};
      task.result = {out.data() + i * group * shape_.head_dim_v, lse.data() + i * group, vectors, shape_.head_dim_v};
      batch.push_back(task);
    }
  }

  void expect_close(double bound) const {
    for (std::size_t vector = 0; vector < lse.size(); ++vector) {
      const auto expected = reference(vector);
      const float* actual = out.data() + vector * static_cast<std::size_t>(shape_.head_dim_v);
      ASSERT_LT(relative_error(actual, expected.out), bound) << "vector " << vector;
      if (std::isinf(expected.lse)) {
        ASSERT_EQ(lse[vector], static_cast<float>(expected.lse));
      } else {
        ASSERT_NEAR(lse[vector], expected.lse, 5e-5) << "vector " << vector;
      }
    }
  }

  std::vector<float> out, lse;

 private:
  [[nodiscard]] cpu::reference::Result reference(std::size_t vector) const {
    const auto group = static_cast<std::size_t>(shape_.group_size());
    const std::int64_t position = positions_[vector / group];
    const std::int64_t first = cpu::LogitRule{0.f, nullptr, rule_.sliding_window}.first_visible(position);
    std::vector<double> keys, values, biases;
    for (std::int64_t r = 0; r < fixture_.store.size(); ++r) {
      const std::int64_t at = kFirstPosition + r;
      if (at < first || at > position ||
          std::binary_search(rule_.left_out.begin(), rule_.left_out.end(), static_cast<std::uint32_t>(r)))
        continue;
      keys.insert(keys.end(), k_.begin() + r * shape_.head_dim_k, k_.begin() + (r + 1) * shape_.head_dim_k);
      values.insert(values.end(), v_.begin() + r * shape_.head_dim_v, v_.begin() + (r + 1) * shape_.head_dim_v);
      const double slope = rule_.alibi ? static_cast<double>(slopes_[vector % group]) : 0.0;
      biases.push_back(slope * static_cast<double>(at - position));
    }
    const auto* q = q_.data() + vector * static_cast<std::size_t>(shape_.head_dim_k);
    const std::vector<double> query(q, q + shape_.head_dim_k);
    return cpu::reference::attention({query, keys, values, biases, shape_.scale, shape_.softcap}, shape_.head_dim_v);
  }

  AttentionShape shape_;
  Rule rule_;
  StoreFixture fixture_;
  std::vector<float> k_, v_, q_, slopes_;
  cpu::AlignedVector<float> scaled_;
  std::vector<std::int64_t> positions_;
};

double bound_of(DType dtype) {
  return dtype == DType::f32 ? 4e-6 : kTensorCoreErrors * (dtype == DType::bf16 ? 2e-5 : 4e-6);
}

std::int64_t attend(RowStreaming& streaming, const std::vector<HostRowsAttention>& batch) {
  const std::int64_t bytes = streaming.attend(batch.data(), static_cast<std::int64_t>(batch.size()), kTimeout);
  streaming.wait(kTimeout);
  return bytes;
}

class RowStreams : public CudaTest {};
INSTANTIATE_TEST_SUITE_P(Orders, RowStreams, kThreadOrders);

TEST_P(RowStreams, StoresOfAnyLengthAgreeWithTheOracle) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    const AttentionShape shape = shape_of(3);
    RowStreaming streaming(HandOffKind::flag, small_sizes(shape, dtype));
    std::deque<Head> heads;
    std::vector<HostRowsAttention> batch;
    for (const std::int64_t rows : {0, 1, 64, 255, 256, 257, 511, 513, 1025}) {
      heads.emplace_back(shape, dtype, rows, 1 + rows % 40);
      heads.back().add_tasks(batch);
    }
    attend(streaming, batch);
    for (const Head& head : heads) head.expect_close(bound_of(dtype));
  }
}

TEST_P(RowStreams, RulesAreFollowed) {
  std::vector<std::uint32_t> holes;
  for (std::uint32_t r = 100; r < 700; r += 1 + r % 3) holes.push_back(r);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const AttentionShape shape = resolved({1, 2, 1, 48, 64, 0.f, 15.f});
    RowStreaming streaming(HandOffKind::flag, small_sizes(shape, dtype));
    std::deque<Head> heads;
    std::vector<HostRowsAttention> batch;
    for (const Rule& rule :
         {Rule{}, Rule{300}, Rule{5}, Rule{0, true}, Rule{400, true, holes}, Rule{0, false, holes}}) {
      heads.emplace_back(shape, dtype, 900, 30, rule);
      heads.back().add_tasks(batch);
      heads.emplace_back(shape, dtype, 900, 30, rule, 480);  // in the middle of the rows, over the end of a piece
      heads.back().add_tasks(batch);
    }
    attend(streaming, batch);
    for (const Head& head : heads) head.expect_close(bound_of(dtype));
  }
}

TEST_P(RowStreams, BitsDependOnTheTaskAlone) {
  const AttentionShape shape = shape_of(2, 64, 48);
  const DType dtype = DType::bf16;
  Head alone(shape, dtype, 700, 50), among(shape, dtype, 700, 50), other(shape, dtype, 1300, 20);
  RowStreaming small(HandOffKind::flag, small_sizes(shape, dtype, 16)),
      large(HandOffKind::flag, small_sizes(shape, dtype, 4096));
  std::vector<HostRowsAttention> first, second;
  alone.add_tasks(first, 3);
  other.add_tasks(second);
  among.add_tasks(second);
  for (const HostRowsAttention& task : first) attend(small, {task});
  attend(large, second);
  EXPECT_EQ(alone.out, among.out);
  EXPECT_EQ(alone.lse, among.lse);
}

TEST_P(RowStreams, OnlyPagesThatAreSeenTravel) {
  const AttentionShape shape = shape_of(2);
  const DType dtype = DType::bf16;
  const std::int64_t row_bytes = cpu::RowLayout::of(shape, dtype).row_bytes;
  RowStreaming streaming(HandOffKind::flag, small_sizes(shape, dtype));
  Head all(shape, dtype, 1000, 4), latest(shape, dtype, 1000, 4, {100}), early(shape, dtype, 1000, 4, {}, 80),
      many(shape, dtype, 1000, 96);
  const auto bytes_of = [&](Head& head) {
    std::vector<HostRowsAttention> batch;
    head.add_tasks(batch);
    return attend(streaming, batch);
  };
  EXPECT_EQ(bytes_of(all), 1000 * row_bytes);
  EXPECT_EQ(bytes_of(latest), (1000 - 896) * row_bytes);  // from row 905 on, which is in the page from 896 on
  EXPECT_EQ(bytes_of(early), 80 * row_bytes);             // of position 83 at most
  EXPECT_EQ(bytes_of(many), 2 * 1000 * row_bytes);        // passes of 96 vectors
}

/// Pieces of the size that runtimes have: 8,192 rows, and splits of 2,048.
TEST_P(RowStreams, PiecesOfFullSize) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const AttentionShape shape = shape_of(1, 32, 16);
    RowStreaming streaming(HandOffKind::flag);
    for (const std::int64_t rows : {8191, 8193, 20000}) {
      Head head(shape, dtype, rows, 2);
      std::vector<HostRowsAttention> batch;
      head.add_tasks(batch);
      attend(streaming, batch);
      head.expect_close(bound_of(dtype));
    }
  }
}

TEST(StreamingSizes, AreAsStated) {
  const StreamingSizes sizes;
  constexpr std::int64_t kMiB = 1 << 20;
  EXPECT_LT(sizes.device_bytes(), 34 * kMiB);
  EXPECT_LT(sizes.host_bytes(), 26 * kMiB);
}

#if defined(TANDEM_CUDA_EMULATED)

TEST_P(RowStreams, StreamsMayBeLateAndHandOffsDiffer) {
  for (const auto progress : {emulator::Progress::eager, emulator::Progress::late}) {
    for (const HandOffKind kind : {HandOffKind::flag, HandOffKind::host_call, HandOffKind::event}) {
      emulator::Config machine;
      machine.order = GetParam();
      machine.progress = progress;
      machine.late_after_ms = 1;
      machine.max_delay_us = 30;
      emulator::reset(machine);
      const AttentionShape shape = shape_of(2);
      RowStreaming streaming(kind, small_sizes(shape, DType::bf16));
      Head head(shape, DType::bf16, 1100, 100);
      std::vector<HostRowsAttention> batch;
      head.add_tasks(batch);
      attend(streaming, batch);
      head.expect_close(2e-5);
    }
  }
}

/// Kernels of few vectors overtake copies unless they wait for them.
TEST_P(RowStreams, KernelsWaitForTheirRows) {
  emulator::Config machine;
  machine.order = GetParam();
  machine.progress = emulator::Progress::late;
  machine.late_after_ms = 500;
  emulator::reset(machine);
  const AttentionShape shape = shape_of(1);
  RowStreaming streaming(HandOffKind::flag, small_sizes(shape, DType::f32));
  for (const std::int64_t rows : {40, 300}) {
    Head head(shape, DType::f32, rows, 1);
    std::vector<HostRowsAttention> batch;
    head.add_tasks(batch);
    attend(streaming, batch);
    head.expect_close(4e-6);
  }
}

TEST_P(RowStreams, CallsOfSeveralThreads) {
  const AttentionShape shape = shape_of(2);
  RowStreaming streaming(HandOffKind::flag, small_sizes(shape, DType::f32));
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      Head head(shape, DType::f32, 300 + 100 * t, 70);
      std::vector<HostRowsAttention> batch;
      head.add_tasks(batch);
      attend(streaming, batch);
      head.expect_close(4e-6);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

/// A refused allocation leaves nothing behind.
TEST_P(RowStreams, MemoryIsTakenWholeOrNotAtAll) {
  for (const char* call : {"cudaMalloc", "cudaHostAlloc"}) {
    emulator::fail_next(call, cudaErrorMemoryAllocation);
    EXPECT_THROW(RowStreaming(HandOffKind::flag), Error) << call;
    EXPECT_EQ(emulator::check_leaks(), "");
  }
  std::size_t before = 0, with = 0, total = 0;
  cudaMemGetInfo(&before, &total);
  const RowStreaming streaming(HandOffKind::flag);
  cudaMemGetInfo(&with, &total);
  EXPECT_EQ(static_cast<std::int64_t>(before - with), StreamingSizes{}.device_bytes());
}

/// Whatever is lost, and when: the call fails, and writes no result afterwards.
TEST_P(RowStreams, ALostDeviceEndsTheCall) {
  const AttentionShape shape = shape_of(2);
  for (int after = 0; after < 12; ++after) {
    emulator::Config machine;
    machine.order = GetParam();
    emulator::reset(machine);
    RowStreaming streaming(HandOffKind::flag, small_sizes(shape, DType::bf16));
    Head head(shape, DType::bf16, 1100, 100);
    std::vector<HostRowsAttention> batch;
    head.add_tasks(batch);
    emulator::fail_next("kernel", cudaErrorIllegalAddress, after);
    try {
      attend(streaming, batch);
      ADD_FAILURE() << after;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::device_lost);
      EXPECT_FALSE(streaming.stuck());
    }
    streaming.abandon();
    (void)emulator::take_fault();
  }
  emulator::reset({});
}

#endif

}  // namespace
}  // namespace tandem::testing
