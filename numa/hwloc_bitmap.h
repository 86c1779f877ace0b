#pragma once

#include <memory>
#include <new>

#include <hwloc.h>

namespace tandem::numa {

struct BitmapDeleter {
  void operator()(hwloc_bitmap_s* bitmap) const noexcept { hwloc_bitmap_free(bitmap); }
};

/// An owned set of CPUs or nodes, by the operating system's numbers. Not for installed headers.
using Bitmap = std::unique_ptr<hwloc_bitmap_s, BitmapDeleter>;

/// The empty set. Throws std::bad_alloc.
inline Bitmap make_bitmap() {
  Bitmap bitmap(hwloc_bitmap_alloc());
  if (!bitmap) throw std::bad_alloc();
  return bitmap;
}

}  // namespace tandem::numa
