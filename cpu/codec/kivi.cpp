#include "cpu/codec/kivi.h"

#include <algorithm>
#include <cstring>

#include "cpu/codec/packed_codes.h"
#include "cpu/codec/uniform_group.h"
#include "cpu/codec/value_groups.h"
#include "cpu/row_layout.h"

namespace tandem::cpu {
namespace {

constexpr std::int64_t kSideBytes = 2;

/// Where scales of a group of tokens begin; minima are padded_k further on.
std::int64_t side_of(const BlockFormat& format, int group) noexcept {
  return format.k_side + 2 * kSideBytes * group * format.padded_k;
}

std::int64_t codes_of(const BlockFormat& format, int row, int channel) noexcept {
  return format.k_codes + (row / kPageRows * std::int64_t{format.padded_k} + channel) * format.k_stride;
}

/// One channel of a group of tokens.
void encode_channel(const BlockFormat& format, const float* k, int group, int channel, std::byte* block) noexcept {
  const int first = group * format.group;
  const auto element = [&](int row) { return k[static_cast<std::ptrdiff_t>(row) * format.padded_k + channel]; };
  float least = element(first), largest = least;
  for (int r = first; r < first + format.group; ++r) {
    least = std::min(least, element(r));
    largest = std::max(largest, element(r));
  }
  const UniformGroup coded = uniform_group(least, largest, format.bits);
  std::byte* side = block + side_of(format, group) + kSideBytes * channel;
  std::memcpy(side, &coded.scale, sizeof(coded.scale));
  std::memcpy(side + kSideBytes * format.padded_k, &coded.minimum, sizeof(coded.minimum));
  for (int r = first; r < first + format.group; ++r)
    store_packed(block + codes_of(format, r, channel), format.bits, r % kPageRows,
                 uniform_code(coded, format.bits, element(r)));
}

}  // namespace

BlockFormat kivi_format(const CodecParams& params, const AttentionShape& shape) noexcept {
  BlockFormat format = block_format(CodecKind::kivi, shape);
  format.bits = params.bits;
  format.group = params.group;
  format.block_rows = std::max(kPageRows, params.group);
  const int groups = format.block_rows / format.group;
  format.k_stride = packed_bytes(kPageRows, format.bits);
  format.k_side = format.block_rows / kPageRows * format.padded_k * format.k_stride;
  const std::int64_t end = place_value_groups(format, side_of(format, groups));
  format.block_bytes = (end + 63) / 64 * 64;
  const std::int64_t code_bits = std::int64_t{format.block_rows} * format.bits * (format.dim_k + format.dim_v);
  format.code_bytes = code_bits / 8 + 2 * kSideBytes * groups * format.dim_k +
                      2 * kSideBytes * format.block_rows * (format.dim_v / format.group);
  return format;
}

void encode_kivi(const BlockFormat& format, const float* k, const float* v, std::byte* block) noexcept {
  std::memset(block, 0, static_cast<std::size_t>(format.block_bytes));
  for (int group = 0; group < format.block_rows / format.group; ++group) {
    for (int channel = 0; channel < format.padded_k; ++channel) encode_channel(format, k, group, channel, block);
  }
  encode_value_groups(format, v, block);
}

void decode_kivi(const BlockFormat& format, const std::byte* block, int first, int count, float* k, float* v) noexcept {
  for (int r = first; r < first + count; ++r, k += format.padded_k) {
    const std::byte* side = block + side_of(format, r / format.group);
    for (int channel = 0; channel < format.padded_k; ++channel) {
      UniformGroup coded;
      std::memcpy(&coded.scale, side + kSideBytes * channel, sizeof(coded.scale));
      std::memcpy(&coded.minimum, side + kSideBytes * (format.padded_k + channel), sizeof(coded.minimum));
      k[channel] = uniform_value(coded, load_packed(block + codes_of(format, r, channel), format.bits, r % kPageRows));
    }
  }
  decode_value_groups(format, block, first, count, v);
}

}  // namespace tandem::cpu
