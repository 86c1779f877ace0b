#include "bench/gpu/streamed_rows.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <vector>

#include <fmt/format.h>

#include "bench/gpu/tiled_head.h"
#include "cpu/aligned_vector.h"
#include "cpu/kv_store.h"
#include "numa/memory_ledger.h"
#include "numa/worker_pool.h"
#include "runtime/base/error.h"
#include "runtime/base/random.h"
#include "tools/tandem/interrupt.h"
#include "tools/tandem/statistics.h"

namespace tandem::bench {
namespace {

constexpr std::int64_t kVectorsPerTask = 64;  // as the runtime cuts them

/// The store of one head, which lives as long as the measurements of its length.
class StoredHead {
 public:
  StoredHead(const numa::Topology& topology, const TiledHead& head)
      : ledger_(std::numeric_limits<std::int64_t>::max()),
        pool_(topology, 0, head.layout().page_bytes(), ledger_),
        store_(head.layout(), pool_) {
    store_.reserve(head.tokens());
    const auto tile_rows = static_cast<std::int64_t>(head.tile().size()) / head.layout().row_bytes;
    for (std::int64_t row = 0; row < head.tokens(); row += tile_rows) store_.append(head.tile().data(), tile_rows);
  }
  [[nodiscard]] const cpu::KvStore& store() const noexcept { return store_; }

 private:
  numa::MemoryLedger ledger_;
  cpu::PagePool pool_;
  cpu::KvStore store_;
};

/// A chunk of queries of the tokens behind the store's, in tasks.
class Chunk {
 public:
  Chunk(const TiledHead& head, const StoredHead& stored, std::int64_t queries, std::int32_t group)
      : head_(head), vectors_(queries * group) {
    const cpu::RowLayout& layout = head.layout();
    q_.resize(static_cast<std::size_t>(vectors_ * layout.padded_k));
    CounterRandom random(3, 0);
    for (float& x : q_) x = static_cast<float>(random.normal() / std::sqrt(static_cast<double>(layout.dim_k)));
    for (std::int64_t i = 0; i < queries; ++i) positions_.push_back(head.tokens() + i);
    out_.resize(static_cast<std::size_t>(vectors_ * layout.dim_v));
    lse_.resize(static_cast<std::size_t>(vectors_));
    const std::int64_t most = std::max<std::int64_t>(1, kVectorsPerTask / group);
    for (std::int64_t i = 0; i < queries; i += most) {
      const std::int64_t count = std::min(most, queries - i), first = i * group;
      gpu::HostRowsAttention task;
      task.store = &stored.store();
      task.queries = {q_.data() + first * layout.padded_k, positions_.data() + i, static_cast<int>(count), group};
      task.result = {out_.data() + first * layout.dim_v, lse_.data() + first, count * group, layout.dim_v};
      tasks_.push_back(task);
    }
  }

  [[nodiscard]] std::int64_t vectors() const noexcept { return vectors_; }
  /// Returns the bytes of rows that went to the device. Of all workers of `pool`, or this thread alone.
  std::int64_t attend(gpu::Device& device, numa::WorkerPool* pool) {
    for (gpu::HostRowsAttention& task : tasks_)
      task.helpers = pool == nullptr ? numa::NodeWorkers() : numa::NodeWorkers(*pool, 0);
    std::int64_t bytes = 0;
    const auto send = [&](std::int64_t) {
      bytes = device.host_attention(tasks_.data(), static_cast<std::int64_t>(tasks_.size()), gpu::kHostRowsStream);
    };
    if (pool == nullptr) {
      send(0);
    } else {
      pool->run({0}, send);
    }
    device.wait(gpu::kHostRowsStream);
    return bytes;
  }
  /// |out - exact| / |exact|, the largest of the first and the last vector.
  [[nodiscard]] double error() const {
    const cpu::RowLayout& layout = head_.layout();
    double worst = 0;
    for (const std::int64_t vector : {std::int64_t{0}, vectors_ - 1}) {
      const auto exact = head_.exact(q_.data() + vector * layout.padded_k);
      worst = std::max(worst, cli::relative_error(out_.data() + vector * layout.dim_v, exact.out.data(), layout.dim_v));
    }
    return worst;
  }

 private:
  const TiledHead& head_;
  std::int64_t vectors_;
  cpu::AlignedVector<float> q_;
  std::vector<std::int64_t> positions_;
  std::vector<float> out_, lse_;
  std::vector<gpu::HostRowsAttention> tasks_;
};

Json measure(gpu::Device& device, const GpuOptions& options, Chunk& chunk, numa::WorkerPool* pool, std::int64_t tokens,
             double to_device) {
  using Clock = std::chrono::steady_clock;
  std::int64_t bytes = chunk.attend(device, pool);  // kernels are loaded now, and not within the first repetition
  const double error = chunk.error();
  std::vector<double> us;
  for (std::int64_t i = 0; i < options.plan.repetitions; ++i) {
    cli::check_interrupt();
    const auto begin = Clock::now();
    bytes = chunk.attend(device, pool);
    us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
  }
  const double median = cli::quantile(us, 0.5), floor_us = cli::ratio(static_cast<double>(bytes), to_device * 1000);
  const double flop = 4.0 * options.head_dim * static_cast<double>(chunk.vectors()) * static_cast<double>(tokens);
  return {{"tokens", tokens},
          {"vectors", chunk.vectors()},
          {"copying", pool == nullptr ? 1 : pool->num_workers()},
          {"bytes", bytes},
          {"us", quartiles_of(us)},
          {"gb_per_s", gb_per_s(static_cast<double>(bytes), median)},
          {"floor_us", floor_us},
          {"share", cli::ratio(floor_us, median)},
          {"tflop_per_s", cli::ratio(flop, median * 1e6)},
          {"error", error}};
}

}  // namespace

Json measure_streamed_rows(gpu::Device& device, const GpuOptions& options, double to_device) {
  Json rows = Json::array();
  const auto topology = numa::Topology::detect();
  numa::WorkerPool pool(topology, 0);
  const WindowFormat bf16 = window_formats(options.head_dim).front();
  for (const std::int64_t tokens : options.contexts) {
    fmt::print(stderr, "gpu_bench: chunks over {} rows in host memory ..\n", tokens);
    const TiledHead head(bf16, options.head_dim, tokens);
    TANDEM_CHECK(device.prepare_host_attention(head.layout()), out_of_memory,
                 "the device has no memory for the attention over rows in host memory");
    const StoredHead stored(topology, head);
    for (const std::int64_t queries : options.chunks) {
      Chunk chunk(head, stored, queries, options.group);
      rows.push_back(measure(device, options, chunk, nullptr, tokens, to_device));
      if (pool.num_workers() > 1) rows.push_back(measure(device, options, chunk, &pool, tokens, to_device));
    }
  }
  return rows;
}

}  // namespace tandem::bench
