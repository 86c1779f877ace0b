#pragma once

#include <mutex>
#include <unordered_map>
#include <vector>

#include "cpu/aligned_vector.h"
#include "cpu/attention_pass.h"
#include "cpu/kernels.h"
#include "gpu/device.h"
#include "numa/host_buffer.h"
#include "runtime/base/lease_pool.h"

namespace tandem::gpu {

/// The embedded default device: the window lies in host memory and the CPU's own kernels attend over it. Synchronous;
/// every operation runs on the thread that calls it.
class HostDevice final : public Device {
 public:
  /// All arguments must outlive the device.
  HostDevice(const cpu::Kernels& kernels, const numa::Topology& topology, numa::MemoryLedger& ledger);

  [[nodiscard]] std::string name() const override;
  [[nodiscard]] bool is_asynchronous() const noexcept override { return false; }
  void prepare(const cpu::RowLayout&, const cpu::BlockCodec*) override {}
  std::byte* allocate(std::int64_t bytes, int node) override;
  void release(std::byte* data, std::int64_t bytes) noexcept override;
  void copy(std::byte* target, const std::byte* source, std::int64_t bytes, Stream stream) override;
  void write_rows(const WindowView& window, std::int64_t first, const KvView& host_kv, std::int64_t head,
                  Stream stream) override;
  void encode_block(const WindowView& window, std::int64_t first, Stream stream) override;
  void read_rows(const WindowView& window, std::int64_t first, std::int64_t count, const cpu::RowLayout& host_layout,
                 std::byte* host_rows, Stream stream) override;
  void window_attention(const WindowAttention* batch, std::int64_t count, Stream stream) override;
  void wait(Stream) override {}

 private:
  /// What one operation needs besides its arguments.
  struct Scratch {
    cpu::AttentionScratch attention;
    std::vector<float> k, v;      ///< rows of a block
    std::vector<float> out, lse;  ///< the partial of the coded tokens
    cpu::AlignedVector<float> sink_queries;
  };
  void attend(const WindowAttention& task, Scratch& scratch) const;
  void attend_sinks(const WindowAttention& task, Scratch& scratch) const;
  void attend_coded(const WindowAttention& task, Scratch& scratch) const;
  void add_mass(const WindowAttention& task, Scratch& scratch) const;
  template <typename Load>
  void encode(const WindowView& window, std::int64_t first, Scratch& scratch, const Load& load) const;

  const cpu::Kernels& kernels_;
  const numa::Topology& topology_;
  numa::MemoryLedger& ledger_;
  std::mutex mutex_;
  std::unordered_map<std::byte*, numa::HostBuffer> buffers_;
  LeasePool<Scratch> scratch_;
};

}  // namespace tandem::gpu
