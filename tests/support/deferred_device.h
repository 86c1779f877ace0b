#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "gpu/host/host_device.h"
#if defined(TANDEM_TEST_CUDA)
#include "gpu/cuda/cuda_device.h"
#endif

namespace tandem::gpu {

/// The host device as late as it may be: operations are queued, and done when somebody waits. Whoever reads a result
/// too early, or reuses memory that still belongs to the device, gets wrong results with it every time.
class DeferredDevice final : public Device {
 public:
  DeferredDevice(const cpu::Kernels& kernels, const numa::Topology& topology, numa::MemoryLedger& ledger)
      : host_(kernels, topology, ledger) {}

  [[nodiscard]] std::string name() const override { return "deferred " + host_.name(); }
  [[nodiscard]] bool is_asynchronous() const noexcept override { return true; }
  /// Calls so far.
  [[nodiscard]] int batches() const noexcept { return batches_; }
  [[nodiscard]] int waits() const noexcept { return waits_; }
  void prepare(const cpu::RowLayout& layout, const cpu::BlockCodec* codec) override { host_.prepare(layout, codec); }
  std::byte* allocate(std::int64_t bytes, int node) override { return host_.allocate(bytes, node); }
  void release(std::byte* data, std::int64_t bytes) noexcept override {
    run_all();
    host_.release(data, bytes);
  }
  void copy(std::byte* target, const std::byte* source, std::int64_t bytes, Stream stream) override {
    later([=, this] { host_.copy(target, source, bytes, stream); });
  }
  void write_rows(const WindowView& window, std::int64_t first, const KvView& host_kv, std::int64_t head,
                  Stream stream) override {
    later([=, this, held = HeldView(window), k = HeldTensor(host_kv.k, head), v = HeldTensor(host_kv.v, head)] {
      host_.write_rows(held.view(), first, {k.view(), v.view()}, 0, stream);
    });
  }
  void encode_block(const WindowView& window, std::int64_t first, Stream stream) override {
    later([=, this, held = HeldView(window)] { host_.encode_block(held.view(), first, stream); });
  }
  void read_rows(const WindowView& window, std::int64_t first, std::int64_t count, const cpu::RowLayout& host_layout,
                 std::byte* host_rows, Stream stream) override {
    later([=, this, held = HeldView(window)] {
      host_.read_rows(held.view(), first, count, host_layout, host_rows, stream);
    });
  }
  void window_attention(const WindowAttention* batch, std::int64_t count, Stream stream) override {
    ++batches_;
    later([this, stream, tasks = std::vector<WindowAttention>(batch, batch + count)] {
      const auto begin = std::chrono::steady_clock::now();
      host_.window_attention(tasks.data(), static_cast<std::int64_t>(tasks.size()), stream);
      spans_.push_back({"window batch", begin, std::chrono::steady_clock::now()});
    });
  }
  void wait(Stream) override {
    ++waits_;
    run_all();
  }

  std::int64_t take_spans(DeviceSpan* spans, std::int64_t most) override {
    const std::lock_guard lock(mutex_);
    const std::int64_t count = std::min(most, static_cast<std::int64_t>(spans_.size()));
    std::copy_n(spans_.begin(), count, spans);
    spans_.erase(spans_.begin(), spans_.begin() + count);
    return count;
  }

 private:
  /// A view with the tables that operations other than attention look into: the caller's may be gone later.
  class HeldView {
   public:
    explicit HeldView(const WindowView& window)
        : view_(window),
          rows_(pages_of(window.rows, window.sinks + window.ring)),
          blocks_(pages_of(window.blocks, window.codec == nullptr ? 0 : window.ring_blocks)) {}
    [[nodiscard]] WindowView view() const {
      WindowView view = view_;
      view.rows.pages = rows_.data();
      view.blocks.pages = blocks_.data();
      return view;
    }

   private:
    static std::vector<std::byte*> pages_of(const SlotTable& table, std::int64_t slots) {
      return {table.pages, table.pages + (slots + table.page_slots - 1) / table.page_slots};
    }
    WindowView view_;
    std::vector<std::byte*> rows_, blocks_;
  };
  /// One head's rows, back to back.
  class HeldTensor {
   public:
    HeldTensor(const TensorView& tensor, std::int64_t head) : view_(tensor) {
      const auto row_bytes = tensor.dim * static_cast<std::int64_t>(bytes_of(tensor.dtype));
      for (std::int64_t t = 0; t < tensor.tokens; ++t)
        rows_.insert(rows_.end(), tensor.row(t, head), tensor.row(t, head) + row_bytes);
    }
    [[nodiscard]] TensorView view() const { return dense_view(rows_.data(), view_.dtype, view_.tokens, 1, view_.dim); }

   private:
    TensorView view_;
    std::vector<std::byte> rows_;
  };
  void run_all() {
    const std::lock_guard lock(mutex_);
    for (const auto& operation : queue_) operation();
    queue_.clear();
  }
  void later(std::function<void()> operation) {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(operation));
  }

  HostDevice host_;
  std::mutex mutex_;
  std::vector<std::function<void()>> queue_;
  std::vector<DeviceSpan> spans_;
  std::atomic<int> batches_ = 0, waits_ = 0;
};

/// Devices that every test of windows and of the runtime can run on. `cuda` is there where tests are linked with the
/// CUDA tier, and then alone: the same tests run on the others elsewhere.
enum class DeviceKind { host, deferred, cuda };

inline const char* to_string(DeviceKind kind) {
  return kind == DeviceKind::host ? "host" : kind == DeviceKind::deferred ? "deferred" : "cuda";
}

inline auto device_kinds() {
#if defined(TANDEM_TEST_CUDA)
  return ::testing::Values(DeviceKind::cuda);
#else
  return ::testing::Values(DeviceKind::host, DeviceKind::deferred);
#endif
}

inline std::unique_ptr<Device> make_device(DeviceKind kind, const cpu::Kernels& kernels, const numa::Topology& topology,
                                           numa::MemoryLedger& ledger) {
#if defined(TANDEM_TEST_CUDA)
  // Emulated devices share the processor with whatever else runs there: nothing is said about how long they may take.
  if (kind == DeviceKind::cuda) return std::make_unique<cuda::CudaDevice>(0, DeviceParams{std::chrono::minutes(10)});
#endif
  if (kind == DeviceKind::deferred) return std::make_unique<DeferredDevice>(kernels, topology, ledger);
  return std::make_unique<HostDevice>(kernels, topology, ledger);
}

/// Makes such devices for a Runtime.
inline auto device_maker(DeviceKind kind) {
  return [kind](const cpu::Kernels& kernels, const numa::Topology& topology, numa::MemoryLedger& ledger,
                const DeviceParams& /*params*/) { return make_device(kind, kernels, topology, ledger); };
}

}  // namespace tandem::gpu
