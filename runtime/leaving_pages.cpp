#include "runtime/leaving_pages.h"

#include <algorithm>

namespace tandem {
namespace {

// Of all pages under way: a page of each of 64 heads, or what a long prompt sends while the device is busy anyway.
constexpr std::int64_t kMostBytes = std::int64_t{4} << 20;

}  // namespace

void LeavingPages::reserve(std::int64_t bytes, std::int64_t pages) {
  const std::int64_t wanted = std::max(bytes, std::min(pages * bytes, kMostBytes));
  if (static_cast<std::int64_t>(rows_.size()) < wanted) rows_.resize(static_cast<std::size_t>(wanted));
  pages_.reserve(static_cast<std::size_t>(wanted / bytes));
}

void LeavingPages::leave(HeadState& head, gpu::Device& device) {
  const std::int64_t rows = head.window.page_rows(), bytes = rows * head.store.layout().row_bytes;
  if (used_ + bytes > static_cast<std::int64_t>(rows_.size()) || pages_.size() == pages_.capacity()) arrive(device);
  head.window.read_leaving_page(head.store.layout(), rows_.data() + used_, gpu::kWindowStream);
  head.window.release_page(gpu::kWindowStream);
  pages_.push_back({&head, used_, rows, head.window.evicted()});
  used_ += bytes;
}

void LeavingPages::arrive(gpu::Device& device) {
  if (pages_.empty()) return;
  device.wait(gpu::kWindowStream);
  for (const Page& page : pages_) {
    page.head->store.store(rows_.data() + page.offset, page.rows);
    page.head->store.publish(page.evicted);
  }
  pages_.clear();
  used_ = 0;
}

}  // namespace tandem
