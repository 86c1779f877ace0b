#include "gpu/host/host_device.h"

#include <algorithm>
#include <cstring>

namespace tandem::gpu {
namespace {

/// Adds the positions [first, last) of a run that starts at `origin`, a block at a time. Blocks start at whole blocks
/// from the origin, hidden rows included: results then do not depend on which queries share the pass.
void add_positions(const WindowView& window, std::int64_t origin, std::int64_t first, std::int64_t last,
                   cpu::AttentionPass& pass) {
  std::int64_t p = origin + std::max<std::int64_t>(0, first - origin) / cpu::kBlockRows * cpu::kBlockRows;
  pass.add_all([&](cpu::RowBlock& block) {
    if (p >= last) return false;
    block.count = static_cast<int>(std::min<std::int64_t>(cpu::kBlockRows, last - p));
    for (int i = 0; i < block.count; ++i, ++p) {
      block.rows[static_cast<std::size_t>(i)] = window.row(p);
      block.positions[static_cast<std::size_t>(i)] = p;
    }
    return true;
  });
}

void attend(const cpu::Kernels& kernels, const WindowAttention& task, cpu::AttentionScratch& scratch) {
  cpu::AttentionPass pass(kernels, task.window.layout, task.queries, task.logits, nullptr, scratch);
  const std::int64_t first = task.logits.first_visible(task.queries.positions[0]);
  const std::int64_t end = std::min(task.window.end, task.queries.positions[task.queries.num_queries - 1] + 1);
  add_positions(task.window, 0, first, std::min(task.window.sinks, end), pass);
  add_positions(task.window, task.window.local_begin, first, end, pass);
  pass.finish(task.result);
}

}  // namespace

DeviceBuffer::DeviceBuffer(Device& device, std::int64_t bytes, int node)
    : device_(&device), data_(device.allocate(bytes, node)), bytes_(bytes) {}

DeviceBuffer::~DeviceBuffer() {
  if (data_ != nullptr) device_->release(data_, bytes_);
}

HostDevice::HostDevice(const cpu::Kernels& kernels, const numa::Topology& topology, numa::MemoryLedger& ledger)
    : kernels_(kernels), topology_(topology), ledger_(ledger) {}

std::string HostDevice::name() const { return std::string("host (") + cpu::to_string(kernels_.isa) + ")"; }

std::byte* HostDevice::allocate(std::int64_t bytes, int node) {
  if (bytes == 0) return nullptr;
  auto buffer = numa::HostBuffer::on_node(topology_, node, bytes, ledger_, "window");
  const std::lock_guard lock(mutex_);
  std::byte* data = buffer.data();
  buffers_.emplace(data, std::move(buffer));
  return data;
}

void HostDevice::release(std::byte* data, std::int64_t /*bytes*/) noexcept {
  const std::lock_guard lock(mutex_);
  buffers_.erase(data);
}

void HostDevice::copy(std::byte* target, const std::byte* source, std::int64_t bytes, Stream /*stream*/) {
  if (bytes > 0) std::memcpy(target, source, static_cast<std::size_t>(bytes));
}

void HostDevice::write_rows(const WindowView& window, std::int64_t first, const KvView& host_kv, std::int64_t head,
                            Stream /*stream*/) {
  for (std::int64_t t = 0; t < host_kv.k.tokens; ++t) {
    cpu::write_row(window.layout, host_kv.k.dtype, host_kv.k.row(t, head), host_kv.v.row(t, head),
                   window.row(first + t));
  }
}

void HostDevice::read_rows(const WindowView& window, std::int64_t first, std::int64_t count,
                           const cpu::RowLayout& host_layout, std::byte* host_rows, Stream /*stream*/) {
  for (std::int64_t i = 0; i < count; ++i) {
    cpu::convert_row(window.layout, window.row(first + i), host_layout, host_rows + i * host_layout.row_bytes);
  }
}

void HostDevice::window_attention(const WindowAttention* batch, std::int64_t count, Stream /*stream*/) {
  const LeasePool<cpu::AttentionScratch>::Lease scratch(scratch_);
  for (std::int64_t i = 0; i < count; ++i) attend(kernels_, batch[i], *scratch);
}

}  // namespace tandem::gpu
