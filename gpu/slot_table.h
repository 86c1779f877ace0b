#pragma once

#include <cstddef>
#include <cstdint>

namespace tandem::gpu {

/// Where slots of one size lie: in pages of page_slots, anywhere in a device's memory.
struct SlotTable {
  std::byte* const* pages = nullptr;
  std::int64_t page_slots = 1;
  std::int64_t slot_bytes = 0;

  [[nodiscard]] std::byte* operator[](std::int64_t slot) const noexcept {
    return pages[slot / page_slots] + slot % page_slots * slot_bytes;
  }
};

}  // namespace tandem::gpu
