#pragma once

#include <cstddef>
#include <cstdint>

#include "numa/memory_ledger.h"
#include "numa/topology.h"

namespace tandem::numa {

/// Zeroed host memory bound to one NUMA node, aligned to 2 MiB and advised to use transparent huge pages when it is at
/// least that large (page-aligned otherwise). Move-only; counted in the ledger while it lives.
class HostBuffer {
 public:
  HostBuffer() = default;
  /// `node` is an index into topology.nodes(). Binding and huge pages are best effort (containers may forbid both) and
  /// logged once when refused. Throws Error(out_of_memory) from the ledger or the system with the figures.
  static HostBuffer on_node(const Topology& topology, int node, std::int64_t bytes, MemoryLedger& ledger,
                            const char* what);
  HostBuffer(HostBuffer&& other) noexcept;
  HostBuffer& operator=(HostBuffer&& other) noexcept;
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;
  ~HostBuffer();

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::int64_t bytes() const noexcept { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::int64_t bytes_ = 0;
  std::int64_t mapped_bytes_ = 0;
  Reservation reservation_;
};

}  // namespace tandem::numa
