#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gpu/device.h"

namespace tandem::gpu {

/// Slots of one size in a device's memory, in pages: all of them from the start, or each page when it is needed, so
/// that heads of different lengths take no more than their entries fill. Not thread-safe.
class PagedSlots {
 public:
  PagedSlots() = default;
  /// `node` is the NUMA node of who reads the slots. Throws Error(out_of_memory).
  PagedSlots(Device& device, std::int64_t slots, std::int64_t slot_bytes, std::int64_t page_slots, int node,
             bool on_demand);
  PagedSlots(PagedSlots&&) noexcept = default;
  PagedSlots& operator=(PagedSlots&&) noexcept = default;
  PagedSlots(const PagedSlots&) = delete;
  PagedSlots& operator=(const PagedSlots&) = delete;
  ~PagedSlots() = default;

  [[nodiscard]] std::int64_t slots() const noexcept { return slots_; }
  /// Of device memory, taken so far.
  [[nodiscard]] std::int64_t bytes() const noexcept;
  /// Stays valid as long as this object does, wherever it moves.
  [[nodiscard]] SlotTable table() const noexcept { return {pages_.data(), page_slots_, slot_bytes_}; }
  /// Slots [0, slots) can be used from now on. Throws Error(out_of_memory); slots that could be used still can.
  void reserve(std::int64_t slots);
  /// The slots that `source`, of the same size, has, with their content. Throws Error(out_of_memory).
  void copy_from(const PagedSlots& source, Stream stream);

 private:
  Device* device_ = nullptr;
  std::int64_t slots_ = 0;
  std::int64_t slot_bytes_ = 0;
  std::int64_t page_slots_ = 1;
  int node_ = 0;
  std::vector<DeviceBuffer> buffers_;  ///< one for all pages, or one for each
  std::vector<std::byte*> pages_;      ///< nullptr: not there yet; its size is final
  std::size_t num_pages_ = 0;          ///< that are there, the first ones
};

}  // namespace tandem::gpu
