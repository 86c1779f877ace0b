#pragma once

#include <cstdint>
#include <string>

#include "gpu/host/host_device.h"

namespace tandem::gpu {

/// The host device under a name that promises to work beside the host, for devices that do one thing otherwise.
class ForwardingDevice : public Device {
 public:
  ForwardingDevice(const cpu::Kernels& kernels, const numa::Topology& topology, numa::MemoryLedger& ledger)
      : host_(kernels, topology, ledger) {}

  [[nodiscard]] std::string name() const override { return "forwarding"; }
  [[nodiscard]] bool is_asynchronous() const noexcept override { return true; }
  void prepare(const cpu::RowLayout& layout, const cpu::BlockCodec* codec) override { host_.prepare(layout, codec); }
  std::byte* allocate(std::int64_t bytes, int node) override { return host_.allocate(bytes, node); }
  void release(std::byte* data, std::int64_t bytes) noexcept override { host_.release(data, bytes); }
  void copy(std::byte* target, const std::byte* source, std::int64_t bytes, Stream stream) override {
    begin();
    host_.copy(target, source, bytes, stream);
  }
  void write_rows(const WindowView& window, std::int64_t first, const KvView& host_kv, std::int64_t head,
                  Stream stream) override {
    begin();
    host_.write_rows(window, first, host_kv, head, stream);
  }
  void encode_block(const WindowView& window, std::int64_t first, Stream stream) override {
    begin();
    host_.encode_block(window, first, stream);
  }
  void read_rows(const WindowView& window, std::int64_t first, std::int64_t count, const cpu::RowLayout& host_layout,
                 std::byte* host_rows, Stream stream) override {
    begin();
    host_.read_rows(window, first, count, host_layout, host_rows, stream);
  }
  void window_attention(const WindowAttention* batch, std::int64_t count, Stream stream) override {
    begin();
    host_.window_attention(batch, count, stream);
  }
  void wait(Stream) override { begin(); }

 protected:
  /// Before every operation and every wait.
  virtual void begin() {}

 private:
  HostDevice host_;
};

}  // namespace tandem::gpu
