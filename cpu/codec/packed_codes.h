#pragma once

#include <cstddef>
#include <cstdint>

namespace tandem::cpu {

/// A row of codes of 2 or 4 bits. 16 bytes hold 8 / bits vectors of 16 codes: byte l has code l of each, vector j in
/// the bits from j * bits on. A vector is thus one shift away from 16 bytes that are widened to words.
inline constexpr int kPackedLanes = 16;

/// Bytes of `count` codes, a multiple of 16.
constexpr std::int64_t packed_bytes(int count, int bits) noexcept {
  const int vectors = count / kPackedLanes, vectors_of_chunk = 8 / bits;
  return std::int64_t{kPackedLanes} * ((vectors + vectors_of_chunk - 1) / vectors_of_chunk);
}

constexpr int packed_byte(int i, int bits) noexcept {
  return i / kPackedLanes * bits / 8 * kPackedLanes + i % kPackedLanes;
}
constexpr int packed_shift(int i, int bits) noexcept { return i / kPackedLanes * bits % 8; }

/// Code number i. `row` was zero there.
inline void store_packed(std::byte* row, int bits, int i, int code) noexcept {
  row[packed_byte(i, bits)] |= static_cast<std::byte>(code << packed_shift(i, bits));
}
inline int load_packed(const std::byte* row, int bits, int i) noexcept {
  return std::to_integer<int>(row[packed_byte(i, bits)] >> packed_shift(i, bits)) & ((1 << bits) - 1);
}

}  // namespace tandem::cpu
