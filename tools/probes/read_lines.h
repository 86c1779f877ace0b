#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace tandem::probes {

/// Folds `bytes` (a multiple of 128, at a multiple of 64) into one word, with the widest loads that the processor has:
/// four narrow ones for a line reach two thirds of the bandwidth.
[[gnu::noinline]]
#if defined(__x86_64__)
[[gnu::target_clones("avx512f", "avx2", "default")]]
#endif
inline std::uint64_t
read_lines(const std::byte* data, std::int64_t bytes) {
  using Line [[gnu::vector_size(64)]] = std::uint64_t;
  Line a{}, b{};
  for (std::int64_t i = 0; i < bytes; i += 128) {
    a ^= *reinterpret_cast<const Line*>(data + i);
    b ^= *reinterpret_cast<const Line*>(data + i + 64);
  }
  a ^= b;
  std::uint64_t total = 0;
  for (int w = 0; w < 8; ++w) total ^= a[w];
  return total;
}

/// Asks for the row that will be read a little later: into the second-level cache, whose misses are not the few of the
/// first.
inline void ask_for_row(const std::byte* row, std::int64_t row_bytes) {
  for (std::int64_t line = 0; line < row_bytes; line += 64) __builtin_prefetch(row + line, 0, 2);
}

/// The same bytes as read_lines(), a multiple of 512 of them, each line asked for 16 KiB ahead.
inline std::uint64_t read_asking_ahead(const std::byte* data, std::int64_t bytes) {
  constexpr std::int64_t kRowBytes = 512, kRowsAhead = 32;
  std::uint64_t total = 0;
  const std::int64_t last = bytes - kRowBytes;
  for (std::int64_t i = 0; i <= last; i += kRowBytes) {
    ask_for_row(data + std::min(i + kRowsAhead * kRowBytes, last), kRowBytes);
    total ^= read_lines(data + i, kRowBytes);
  }
  return total;
}

/// The same bytes as read_lines(), a multiple of 2048 of them, a line of each of four rows in turn: a core of AMD's
/// Zen 3 then has so many more lines under way that it reads 15 GB/s instead of 8.6.
[[gnu::noinline]]
#if defined(__x86_64__)
[[gnu::target_clones("avx512f", "avx2", "default")]]
#endif
inline std::uint64_t
read_interleaved(const std::byte* data, std::int64_t bytes) {
  using Line [[gnu::vector_size(64)]] = std::uint64_t;
  constexpr std::int64_t kRowBytes = 512;
  Line a{}, b{}, c{}, d{};
  for (std::int64_t i = 0; i < bytes; i += 4 * kRowBytes) {
    for (std::int64_t line = i; line < i + kRowBytes; line += 64) {
      a ^= *reinterpret_cast<const Line*>(data + line);
      b ^= *reinterpret_cast<const Line*>(data + line + kRowBytes);
      c ^= *reinterpret_cast<const Line*>(data + line + 2 * kRowBytes);
      d ^= *reinterpret_cast<const Line*>(data + line + 3 * kRowBytes);
    }
  }
  a ^= b ^ c ^ d;
  std::uint64_t total = 0;
  for (int w = 0; w < 8; ++w) total ^= a[w];
  return total;
}

}  // namespace tandem::probes
