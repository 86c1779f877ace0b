#pragma once

#include <cstdint>
#include <vector>

#include "cpu/aligned_vector.h"
#include "gpu/device.h"
#include "runtime/sequence.h"

namespace tandem {

/// Pages on their way from windows to the host tier: the device is asked for many of them and waited for once. Not
/// thread-safe.
class LeavingPages {
 public:
  /// Room for at least one page of `bytes`, and for `pages` of them where that is not too much. Throws std::bad_alloc.
  void reserve(std::int64_t bytes, std::int64_t pages);
  /// The oldest page of the head's rows leaves its window, and goes to its store with a later call or with arrive().
  /// The memory is reserved. Throws Error(device_lost).
  void leave(HeadState& head, gpu::Device& device);
  /// All of them are in their stores, and what the windows have forgotten is published there. Throws
  /// Error(device_lost).
  void arrive(gpu::Device& device);

 private:
  struct Page {
    HeadState* head;
    std::int64_t offset;
    std::int64_t rows;
    std::int64_t evicted;  ///< tokens that the window had forgotten when the page had left
  };
  cpu::AlignedVector<std::byte> rows_;
  std::vector<Page> pages_;
  std::int64_t used_ = 0;
};

}  // namespace tandem
