#pragma once
#include <cstring>
#include <type_traits>

#include "cuda_emulator/thread.h"

// Collectives of a warp and of a block, under CUDA's names. The last parameter is the caller's place in the source.

namespace emulator {
[[noreturn]] void fail_in_kernel(const std::string& what, std::source_location where);

/// What lane `source` brings; `source` must already lie within the caller's segment of `width` lanes.
template <class T>
T exchange(unsigned mask, T value, unsigned source, std::source_location where) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t));
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = warp_collective(Collective::shuffle, mask, bits, source, where);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

/// First lane of the caller's segment.
inline unsigned segment(int width, std::source_location where) {
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) {
    fail_in_kernel("the width of a shuffle is " + std::to_string(width) + ", not a power of two up to 32", where);
  }
  return lane() & ~static_cast<unsigned>(width - 1);
}
}  // namespace emulator

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32,
              std::source_location where = std::source_location::current()) {
  const unsigned first = emulator::segment(width, where);
  return emulator::exchange(mask, value, first + (static_cast<unsigned>(lane) & static_cast<unsigned>(width - 1)),
                            where);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                  std::source_location where = std::source_location::current()) {
  const unsigned lane = emulator::lane();
  const unsigned end = emulator::segment(width, where) + static_cast<unsigned>(width);
  const unsigned source = lane ^ static_cast<unsigned>(lane_mask);  // earlier segments may be read, later ones not
  return emulator::exchange(mask, value, source < end ? source : lane, where);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 std::source_location where = std::source_location::current()) {
  const unsigned lane = emulator::lane();
  const unsigned first = emulator::segment(width, where);
  return emulator::exchange(mask, value, lane - first >= delta ? lane - delta : lane, where);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   std::source_location where = std::source_location::current()) {
  const unsigned lane = emulator::lane();
  const unsigned end = emulator::segment(width, where) + static_cast<unsigned>(width);
  return emulator::exchange(mask, value, delta < end - lane ? lane + delta : lane, where);
}

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              std::source_location where = std::source_location::current()) {
  using emulator::Collective;
  return static_cast<unsigned>(emulator::warp_collective(Collective::ballot, mask, predicate != 0, 0, where));
}
inline int __any_sync(unsigned mask, int predicate, std::source_location where = std::source_location::current()) {
  return __ballot_sync(mask, predicate, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate, std::source_location where = std::source_location::current()) {
  return __ballot_sync(mask, predicate, where) == mask;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, std::source_location where = std::source_location::current()) {
  emulator::warp_collective(emulator::Collective::sync, mask, 0, 0, where);
}
inline void __syncthreads(std::source_location where = std::source_location::current()) {
  emulator::block_barrier(where);
}
