#include "lsh/collision_marks.h"

#include <algorithm>
#include <bit>

namespace tandem::lsh {
namespace {

using cpu::kCodeBlock;

// The bits of all heads of a byte that say "at least once" and "at least twice".
constexpr std::uint8_t kOnce = 0x55, kTwice = 0xaa;

/// One bit per head from those of `mark` at even places.
std::uint64_t packed(unsigned mark) noexcept {
  unsigned bits = mark & kOnce;
  bits = (bits | bits >> 1) & 0x33u;
  return (bits | bits >> 2) & 0x0fu;
}

/// Bits [low, high) of the word that begins at bit `begin`.
std::uint64_t range_mask(std::int64_t begin, std::int64_t low, std::int64_t high) noexcept {
  std::uint64_t mask = ~std::uint64_t{0};
  if (low > begin) mask &= ~std::uint64_t{0} << (low - begin);
  if (high < begin + kCodeBlock) mask &= ~(~std::uint64_t{0} << (high - begin));
  return mask;
}

}  // namespace

void CollisionMarks::reset(int heads, std::int64_t rows) {
  rows_ = rows;
  stride_ = (rows + kCodeBlock - 1) / kCodeBlock * kCodeBlock;
  groups_ = (heads + kHeads - 1) / kHeads;
  bytes_.assign(static_cast<std::size_t>(groups_ * stride_), 0);
  found_.assign(static_cast<std::size_t>(stride_ / kCodeBlock), 0);
}

void CollisionMarks::append_found(const cpu::Kernels& kernels, int min_collisions, std::int64_t first,
                                  std::int64_t begin, std::int64_t end, cpu::Selection& selection) {
  const int shift = min_collisions - 1;
  for (int g = 0; g < groups_; ++g) {
    kernels.simhash.find_marked(bytes_.data() + g * stride_, stride_, shift == 0 ? kOnce : kTwice, found_.data());
  }
  const std::int64_t low = std::max<std::int64_t>(begin - first, 0), high = std::min(end - first, rows_);
  for (std::int64_t base = low / kCodeBlock * kCodeBlock; base < high; base += kCodeBlock) {
    std::uint64_t word = found_[static_cast<std::size_t>(base / kCodeBlock)] & range_mask(base, low, high);
    for (; word != 0; word &= word - 1) {
      const std::int64_t row = base + std::countr_zero(word);
      std::uint64_t heads = 0;
      for (int g = 0; g < groups_; ++g) {
        heads |= packed(unsigned{bytes_[static_cast<std::size_t>(g * stride_ + row)]} >> shift) << (g * kHeads);
      }
      selection.rows.push_back(static_cast<std::uint32_t>(first + row));
      selection.head_mask.push_back(heads);
    }
  }
}

}  // namespace tandem::lsh
