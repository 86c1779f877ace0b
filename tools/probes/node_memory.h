#pragma once

#include <cstdint>

#include "numa/host_buffer.h"
#include "tools/probes/team.h"

namespace tandem::probes {

/// What a page of memory is: the base page of the system, or 2 MiB (transparent huge pages).
enum class Pages { small, huge };

/// Memory of one NUMA node to measure with: three arrays a, b and c in huge pages, one behind the other, and one more
/// in small pages. All hold doubles that are far from the denormals, and stay that way. `a` and the array in small
/// pages are never written again: they hold a cycle of links, too (chase.h). Move-only.
class NodeMemory {
 public:
  /// Written by `team`, whose members should be of the node. `array_bytes` is a multiple of 2 MiB. Throws
  /// Error(out_of_memory).
  NodeMemory(const numa::Topology& topology, int node, std::int64_t array_bytes, Team& team,
             numa::MemoryLedger& ledger);

  [[nodiscard]] std::int64_t array_bytes() const noexcept { return array_bytes_; }
  [[nodiscard]] std::byte* a() const noexcept { return arrays_.data(); }
  [[nodiscard]] std::byte* b() const noexcept { return arrays_.data() + array_bytes_; }
  [[nodiscard]] std::byte* c() const noexcept { return arrays_.data() + 2 * array_bytes_; }
  /// The array with links in pages of that kind.
  [[nodiscard]] const std::byte* links(Pages pages) const noexcept {
    return pages == Pages::huge ? arrays_.data() : small_.data();
  }
  /// The part of the arrays that really lies in huge pages, as the system counts them; negative where it does not say.
  [[nodiscard]] double huge_share() const noexcept { return huge_share_; }
  /// Whether the array in small pages is really without huge ones.
  [[nodiscard]] bool has_small_pages() const noexcept { return small_share_ < 0.1; }

 private:
  std::int64_t array_bytes_;
  numa::HostBuffer arrays_, small_;
  double huge_share_ = 0, small_share_ = 0;
};

/// The part of a mapping of this process that lies in transparent huge pages; negative where the system does not say.
/// Source: Linux Documentation/filesystems/proc.rst, smaps.
double share_in_huge_pages(const std::byte* mapping);

}  // namespace tandem::probes
