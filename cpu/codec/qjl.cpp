#include "cpu/codec/qjl.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numbers>
#include <numeric>
#include <vector>

#include "cpu/codec/qjl_projection.h"
#include "cpu/codec/value_groups.h"
#include "runtime/base/error.h"

namespace tandem::cpu {
namespace {

constexpr int kTileColumns = 16;  // of signs that are computed side by side, for two tokens

std::int64_t whole_lines(std::int64_t bytes) noexcept { return (bytes + 63) / 64 * 64; }

using Channels = std::vector<std::int32_t>;

/// What a norm is stored as; see kQjlNormBytes.
std::uint16_t norm_bits(double norm) noexcept {
  return static_cast<std::uint16_t>((std::bit_cast<std::uint32_t>(static_cast<float>(norm)) + 0x4000u) >> 15);
}
float norm_of(std::uint16_t bits) noexcept { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 15); }

/// Where the bit of a column is, from a token's first byte on.
constexpr std::ptrdiff_t byte_of(int column) noexcept {
  return static_cast<std::ptrdiff_t>(column / 32) * kQjlWordRows * kQjlWordBytes + column % 32 / 8;
}
/// A token's first byte, from the beginning of the codes on.
constexpr std::ptrdiff_t codes_of(const BlockFormat& format, int row) noexcept {
  return row / kQjlWordRows * kQjlWordRows * format.k_stride + row % kQjlWordRows * kQjlWordBytes;
}

/// The outlier channels of one group of tokens, k (kQjlGroupRows, padded_k), in ascending order.
Channels outlier_channels(const BlockFormat& format, const float* k) {
  std::vector<double> squares(static_cast<std::size_t>(format.dim_k), 0.0);
  for (int t = 0; t < kQjlGroupRows; ++t) {
    for (std::size_t c = 0; c < squares.size(); ++c) {
      const double x = k[static_cast<std::size_t>(t * format.padded_k) + c];
      squares[c] += x * x;
    }
  }
  Channels order(squares.size());
  std::iota(order.begin(), order.end(), 0);
  const auto end = order.begin() + format.outliers;
  std::partial_sort(order.begin(), end, order.end(), [&](std::int32_t a, std::int32_t b) {
    const double x = squares[static_cast<std::size_t>(a)], y = squares[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  });
  order.erase(end, order.end());
  std::sort(order.begin(), order.end());
  return order;
}

/// All channels but `left_out`, which are in ascending order.
Channels other_channels(const BlockFormat& format, const Channels& left_out) {
  Channels others;
  for (std::int32_t c = 0; c < format.dim_k; ++c) {
    if (!std::binary_search(left_out.begin(), left_out.end(), c)) others.push_back(c);
  }
  return others;
}

/// Four columns side by side, which every processor has: each sum is added up in the order of the channels on all of
/// them, so that all give the same bits.
using Four [[gnu::vector_size(16)]] = float;

/// Sign bits of kTileColumns columns, from `column` on, for two keys that are seen in some of their channels only.
void tile_signs(const BlockFormat& format, const float* k, const Channels& channels, int column, std::byte* codes) {
  constexpr int kFours = kTileColumns / 4;
  Four first[kFours] = {}, second[kFours] = {};
  for (const std::int32_t c : channels) {
    const float* direction = format.projection + static_cast<std::ptrdiff_t>(c) * format.sketch_bits + column;
    const float a = k[c], b = k[format.padded_k + c];
    Four columns[kFours];
    std::memcpy(columns, direction, sizeof(columns));
    for (int i = 0; i < kFours; ++i) first[i] += a * columns[i];
    for (int i = 0; i < kFours; ++i) second[i] += b * columns[i];
  }
  for (const auto* sums : {first, second}) {
    std::uint16_t bits = 0;
    for (int j = 0; j < kTileColumns; ++j) bits |= static_cast<std::uint16_t>((sums[j / 4][j % 4] > 0 ? 1 : 0) << j);
    std::memcpy(codes + byte_of(column), &bits, sizeof(bits));
    codes += kQjlWordBytes;
  }
}

/// One part, the inlier or the outlier one, of one group of tokens: the first `num_bits` signs, and norms.
void encode_part(const BlockFormat& format, const float* k, const Channels& channels, int num_bits, std::byte* codes,
                 std::byte* norms) {
  for (int column = 0; column < num_bits; column += kTileColumns) {
    for (int t = 0; t < kQjlGroupRows; t += 2)
      tile_signs(format, k + static_cast<std::ptrdiff_t>(t) * format.padded_k, channels, column,
                 codes + codes_of(format, t));
  }
  for (int t = 0; t < kQjlGroupRows; ++t) {
    double square = 0;
    for (const std::int32_t c : channels) {
      const double x = k[static_cast<std::ptrdiff_t>(t) * format.padded_k + c];
      square += x * x;
    }
    const std::uint16_t bits = norm_bits(std::sqrt(square));
    std::memcpy(norms + t * sizeof(bits), &bits, sizeof(bits));
  }
}

/// k[c] = factor * sum_j s_j S_cj for each of the channels, from `num_bits` signs.
void decode_part(const BlockFormat& format, const std::byte* codes, int num_bits, float factor,
                 const Channels& channels, float* k) {
  constexpr int kSums = 8;  // that are added to side by side
  std::vector<double> signs(static_cast<std::size_t>(num_bits));
  for (std::size_t j = 0; j < signs.size(); ++j)
    signs[j] = (std::to_integer<int>(codes[byte_of(static_cast<int>(j))]) >> j % 8 & 1) != 0 ? 1.0 : -1.0;
  for (const std::int32_t c : channels) {
    const float* direction = format.projection + static_cast<std::ptrdiff_t>(c) * format.sketch_bits;
    double sums[kSums] = {};
    for (int j = 0; j < num_bits; j += kSums) {
      for (int i = 0; i < kSums; ++i) sums[i] += signs[static_cast<std::size_t>(j + i)] * direction[j + i];
    }
    k[c] = static_cast<float>(factor * std::accumulate(sums, sums + kSums, 0.0));
  }
}

/// K of a block, k (kQjlBlockRows, padded_k).
void encode_keys(const BlockFormat& format, const float* k, std::byte* block) {
  std::byte* norms = block + format.k_side;
  std::byte* outlier_norms = norms + kQjlNormBytes;
  std::byte* ids = outlier_norms + kQjlNormBytes;
  for (int first = 0; first < kQjlBlockRows; first += kQjlGroupRows) {
    const float* keys = k + static_cast<std::ptrdiff_t>(first) * format.padded_k;
    std::byte* codes = block + format.k_codes + codes_of(format, first);
    const Channels outliers = outlier_channels(format, keys);
    encode_part(format, keys, other_channels(format, outliers), format.sketch_bits, codes, norms + 2 * first);
    if (format.outliers == 0) continue;
    encode_part(format, keys, outliers, format.outlier_bits, codes + byte_of(format.sketch_bits),
                outlier_norms + 2 * first);
    for (const std::int32_t c : outliers) *ids++ = static_cast<std::byte>(c);
  }
}

/// The decoded keys of rows [first, first + count), k (count, padded_k).
void decode_keys(const BlockFormat& format, const std::byte* block, int first, int count, float* k) {
  const std::byte* norms = block + format.k_side;
  const std::byte* outlier_norms = norms + kQjlNormBytes;
  const std::byte* ids = outlier_norms + kQjlNormBytes;
  const auto factor = [&](const std::byte* of_part, int row, int bits) {
    std::uint16_t norm = 0;
    std::memcpy(&norm, of_part + 2 * row, sizeof(norm));
    return norm_of(norm) * format.k_factor * static_cast<float>(format.sketch_bits) / static_cast<float>(bits);
  };
  std::fill_n(k, static_cast<std::ptrdiff_t>(count) * format.padded_k, 0.f);
  for (int row = first; row < first + count; ++row, k += format.padded_k) {
    const std::byte* codes = block + format.k_codes + codes_of(format, row);
    Channels outliers(static_cast<std::size_t>(format.outliers));
    for (int i = 0; i < format.outliers; ++i)
      outliers[static_cast<std::size_t>(i)] = std::to_integer<int>(ids[row / kQjlGroupRows * format.outliers + i]);
    decode_part(format, codes, format.sketch_bits, factor(norms, row, format.sketch_bits),
                other_channels(format, outliers), k);
    if (format.outliers == 0) continue;
    decode_part(format, codes + byte_of(format.sketch_bits), format.outlier_bits,
                factor(outlier_norms, row, format.outlier_bits), outliers, k);
  }
}

}  // namespace

void validate_qjl(const CodecParams& params, const AttentionShape& shape) {
  TANDEM_CHECK(shape.head_dim_k <= kQjlMaxHeadDim, invalid_argument, "head_dim_k is ", shape.head_dim_k,
               "; allowed with codec qjl: up to ", kQjlMaxHeadDim);
  TANDEM_CHECK(shape.head_dim_v % kQjlValueGroup == 0, invalid_argument, "head_dim_v is ", shape.head_dim_v,
               "; allowed with codec qjl: multiples of ", kQjlValueGroup);
  TANDEM_CHECK(params.sketch_bits >= 64 && params.sketch_bits <= 1024 && params.sketch_bits % 64 == 0, invalid_argument,
               "codec sketch_bits of qjl is ", params.sketch_bits, "; allowed: multiples of 64, 64 to 1024");
  TANDEM_CHECK(params.outlier_bits >= 0 && params.outlier_bits <= params.sketch_bits && params.outlier_bits % 64 == 0,
               invalid_argument, "codec outlier_bits of qjl is ", params.outlier_bits,
               "; allowed: multiples of 64 up to sketch_bits, which is ", params.sketch_bits, ", or 0 for as many");
  const std::int32_t most = std::min(kQjlGroupRows, shape.head_dim_k / 2);
  TANDEM_CHECK(params.outliers >= 0 && params.outliers <= most, invalid_argument, "codec outliers of qjl is ",
               params.outliers, "; allowed: 0 to ", most, " (32, and half of head_dim_k)");
}

BlockFormat qjl_format(const CodecParams& params, const AttentionShape& shape) noexcept {
  BlockFormat format = block_format(CodecKind::qjl, shape);
  format.bits = kQjlValueBits;
  format.group = kQjlValueGroup;
  format.block_rows = kQjlBlockRows;
  format.sketch_bits = params.sketch_bits;
  format.outliers = params.outliers;
  if (params.outliers != 0) format.outlier_bits = params.outlier_bits == 0 ? params.sketch_bits : params.outlier_bits;
  format.prepared_dim = kQjlPreparedFloats * format.sketch_bits + (format.outliers == 0 ? 0 : format.padded_k);
  format.k_factor = static_cast<float>(std::sqrt(std::numbers::pi / 2) / qjl_bias(format.dim_k, params.orthogonal) /
                                       format.sketch_bits);
  format.k_stride = (format.sketch_bits + format.outlier_bits) / 8;
  format.k_side = kQjlBlockRows * format.k_stride;
  const std::int64_t parts = format.outliers == 0 ? 1 : 2;
  const std::int64_t k_bytes = format.k_side + parts * kQjlNormBytes + kQjlBlockRows / kQjlGroupRows * format.outliers;
  format.block_bytes = whole_lines(place_value_groups(format, whole_lines(k_bytes)));
  const std::int64_t v_side_bytes = std::int64_t{4} * (format.dim_v / format.group);
  format.code_bytes = k_bytes + kQjlBlockRows * (format.dim_v * format.bits / 8 + v_side_bytes);
  return format;
}

std::shared_ptr<const void> set_qjl_projection(const CodecParams& params, BlockFormat& format) {
  auto projection = qjl_projection(params.seed, format.dim_k, params.sketch_bits, params.orthogonal);
  format.projection = projection->data();
  return projection;
}

void encode_qjl(const BlockFormat& format, const float* k, const float* v, std::byte* block) {
  std::memset(block, 0, static_cast<std::size_t>(format.block_bytes));
  encode_keys(format, k, block);
  encode_value_groups(format, v, block);
}

void decode_qjl(const BlockFormat& format, const std::byte* block, int first, int count, float* k, float* v) {
  decode_keys(format, block, first, count, k);
  decode_value_groups(format, block, first, count, v);
}

}  // namespace tandem::cpu
