#include "gpu/paged_slots.h"

#include <algorithm>

namespace tandem::gpu {
namespace {

constexpr std::int64_t divided_up(std::int64_t a, std::int64_t b) noexcept { return (a + b - 1) / b; }

}  // namespace

PagedSlots::PagedSlots(Device& device, std::int64_t slots, std::int64_t slot_bytes, std::int64_t page_slots, int node,
                       bool on_demand)
    : device_(&device), slots_(slots), slot_bytes_(slot_bytes), page_slots_(page_slots), node_(node) {
  pages_.resize(static_cast<std::size_t>(divided_up(slots, page_slots)), nullptr);
  if (on_demand) {
    buffers_.reserve(pages_.size());
    return;
  }
  buffers_.emplace_back(device, slots * slot_bytes, node);
  for (std::size_t i = 0; i < pages_.size(); ++i)
    pages_[i] = buffers_.front().data() + static_cast<std::int64_t>(i) * page_slots * slot_bytes;
  num_pages_ = pages_.size();
}

std::int64_t PagedSlots::bytes() const noexcept {
  std::int64_t total = 0;
  for (const DeviceBuffer& buffer : buffers_) total += buffer.bytes();
  return total;
}

void PagedSlots::reserve(std::int64_t slots) {
  const auto wanted = static_cast<std::size_t>(divided_up(std::min(slots, slots_), page_slots_));
  for (; num_pages_ < wanted; ++num_pages_) {
    const std::int64_t first = static_cast<std::int64_t>(num_pages_) * page_slots_;
    buffers_.emplace_back(*device_, std::min(page_slots_, slots_ - first) * slot_bytes_, node_);
    pages_[num_pages_] = buffers_.back().data();
  }
}

void PagedSlots::copy_from(const PagedSlots& source, Stream stream) {
  reserve(static_cast<std::int64_t>(source.num_pages_) * page_slots_);
  for (std::size_t i = 0; i < source.num_pages_; ++i) {
    const std::int64_t first = static_cast<std::int64_t>(i) * page_slots_;
    device_->copy(pages_[i], source.pages_[i], std::min(page_slots_, slots_ - first) * slot_bytes_, stream);
  }
}

}  // namespace tandem::gpu
