#include "cpu/codec/nuq.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "cpu/row_layout.h"

namespace tandem::cpu {
namespace {

constexpr int kLineFields2 = 4;  // of 2 bits
constexpr int kUpperLine = 2;    // of a unit of 3 bits

/// Adds a code to a unit whose bits of it are zero.
void set_code(std::byte* unit, int bits, int field, int lane, int code) noexcept {
  const auto add = [&](int line, int value, int shift) {
    unit[line * kNuqLanes + lane] |= static_cast<std::byte>(value << shift);
  };
  if (bits == 4) return add(field / 2, code, field % 2 * 4);
  add(field / kLineFields2, code & 3, field % kLineFields2 * 2);
  if (bits == 3) add(kUpperLine, code >> 2, field);
}

int code_of(const std::byte* unit, int bits, int field, int lane) noexcept {
  const auto get = [&](int line, int shift, int mask) {
    return std::to_integer<int>(unit[line * kNuqLanes + lane]) >> shift & mask;
  };
  if (bits == 4) return get(field / 2, field % 2 * 4, 15);
  const int lower = get(field / kLineFields2, field % kLineFields2 * 2, 3);
  return bits == 3 ? lower | get(kUpperLine, field, 1) << 2 : lower;
}

/// A code in its unit.
struct Place {
  std::int64_t unit;
  int field, lane;
};

Place key_place(int channel, int row) noexcept {
  return {channel / 2, channel % 2 * (kNuqFields / 2) + row / kNuqLanes, row % kNuqLanes};
}
Place value_place(const BlockFormat& f, int row, int d) noexcept {
  return {std::int64_t{row / kNuqFields} * (f.padded_v / kNuqLanes) + d / kNuqLanes, row % kNuqFields, d % kNuqLanes};
}

/// The code of the level nearest to x.
int nearest(const float* levels, int bits, float x) noexcept {
  int code = 0;
  for (int step = 1 << bits >> 1; step > 0; step >>= 1) {
    const int next = code + step;
    code = levels[next - 1] + levels[next] < 2 * x ? next : code;
  }
  return code;
}

std::uint32_t packed_residual(float residual, int place) noexcept {
  auto bits = std::bit_cast<std::uint32_t>(residual);
  bits += kNuqPlaceMask / 2 + (bits >> 10 & 1);  // to nearest, ties to even; far from what overflows
  return (bits & ~kNuqPlaceMask) | static_cast<std::uint32_t>(place);
}
float residual_of(std::uint32_t word) noexcept { return std::bit_cast<float>(word & ~kNuqPlaceMask); }
int place_of(std::uint32_t word) noexcept { return static_cast<int>(word & kNuqPlaceMask); }

std::uint32_t load_word(const std::byte* p, std::int64_t i) noexcept {
  std::uint32_t word;
  std::memcpy(&word, p + i * 4, sizeof(word));
  return word;
}
void store_word(std::byte* p, std::int64_t i, std::uint32_t word) noexcept {
  std::memcpy(p + i * 4, &word, sizeof(word));
}
float load_float(const std::byte* p, std::int64_t i) noexcept { return std::bit_cast<float>(load_word(p, i)); }

struct Outlier {
  float residual;
  int place;
};

/// K of one token before RoPE, in order of pairs.
void turned_back(const BlockFormat& f, const float* key, std::int64_t position, float* channels) noexcept {
  double cosines[kMaxHeadDim], sines[kMaxHeadDim];
  f.rope->at(position, cosines, sines);
  for (int i = 0; i < f.padded_k / 2; ++i) {
    const auto [first, second] = f.rope->elements(i);
    const double a = key[first], b = key[second];
    channels[2 * i] = static_cast<float>(a * cosines[i] + b * sines[i]);
    channels[2 * i + 1] = static_cast<float>(b * cosines[i] - a * sines[i]);
  }
}

void encode_key(const BlockFormat& f, int row, const float* channels, std::byte* block) noexcept {
  Outlier outliers[kMaxHeadDim];
  int count = 0;
  for (int c = 0; c < f.padded_k; ++c) {
    const float* levels = f.levels_k + static_cast<std::ptrdiff_t>(c) * kNuqLevels;
    const float x = channels[c];
    const int code = nearest(levels, f.bits, x);
    const Place at = key_place(c, row);
    set_code(block + f.k_codes + at.unit * kNuqLanes * f.bits, f.bits, at.field, at.lane, code);
    const double deviation = std::abs(static_cast<double>(x) - static_cast<double>(f.channel_offset[c]));
    if (deviation > static_cast<double>(f.channel_scale[c])) outliers[count++] = {x - levels[code], c};
  }
  std::sort(outliers, outliers + count, [](const Outlier& a, const Outlier& b) {
    const float x = std::abs(a.residual), y = std::abs(b.residual);
    return x != y ? x > y : a.place < b.place;
  });
  for (int i = 0; i < std::min(count, f.outliers); ++i)
    store_word(block + f.k_side, std::int64_t{row} * f.outliers + i,
               packed_residual(outliers[i].residual, outliers[i].place));
}

/// Where V's scales, offsets and residuals lie.
struct ValueSide {
  const std::byte *scales, *offsets, *residuals;
  explicit ValueSide(const BlockFormat& f, const std::byte* block) noexcept
      : scales(block + f.v_side), offsets(scales + 4 * kNuqBlockRows), residuals(offsets + 4 * kNuqBlockRows) {}
};

void encode_value(const BlockFormat& f, int row, const float* v, std::byte* block) noexcept {
  const int apart = f.outliers_v / 2;
  std::int16_t low[kMaxHeadDim], high[kMaxHeadDim];  // elements, the smallest and the largest ones first
  for (int d = 0; d < f.dim_v; ++d) low[d] = high[d] = static_cast<std::int16_t>(d);
  const auto less = [v](int a, int b) { return v[a] != v[b] ? v[a] < v[b] : a < b; };
  std::partial_sort(low, low + apart + 1, low + f.dim_v, less);
  std::partial_sort(high, high + apart + 1, high + f.dim_v, [less](int a, int b) { return less(b, a); });
  const NuqRange range = nuq_range(v[low[apart]], v[high[apart]]);
  float levels[kNuqLevels];
  for (int j = 0; j < kNuqLevels; ++j) levels[j] = std::fma(f.levels_v[j], range.scale, range.offset);
  for (int d = 0; d < f.dim_v; ++d) {
    const Place at = value_place(f, row, d);
    set_code(block + f.v_codes + at.unit * kNuqLanes * f.bits, f.bits, at.field, at.lane,
             nearest(levels, f.bits, v[d]));
  }
  std::byte* scales = block + f.v_side;
  std::byte* offsets = scales + 4 * kNuqBlockRows;
  store_word(scales, row, std::bit_cast<std::uint32_t>(range.scale));
  store_word(offsets, row, std::bit_cast<std::uint32_t>(range.offset));
  for (int i = 0; i < f.outliers_v; ++i) {
    const int d = i < apart ? low[i] : high[i - apart];
    store_word(offsets + 4 * kNuqBlockRows, std::int64_t{row} * f.outliers_v + i,
               packed_residual(v[d] - levels[nearest(levels, f.bits, v[d])], d));
  }
}

void decode_key(const BlockFormat& f, const std::byte* block, int row, std::int64_t position, float* key) noexcept {
  float channels[kMaxHeadDim];
  double cosines[kMaxHeadDim], sines[kMaxHeadDim];
  for (int c = 0; c < f.padded_k; ++c) {
    const Place at = key_place(c, row);
    const int code = code_of(block + f.k_codes + at.unit * kNuqLanes * f.bits, f.bits, at.field, at.lane);
    channels[c] = f.levels_k[static_cast<std::ptrdiff_t>(c) * kNuqLevels + code];
  }
  for (int i = 0; i < f.outliers; ++i) {
    const std::uint32_t word = load_word(block + f.k_side, std::int64_t{row} * f.outliers + i);
    channels[place_of(word)] += residual_of(word);
  }
  f.rope->at(position, cosines, sines);
  for (int i = 0; i < f.padded_k / 2; ++i) {
    const auto [first, second] = f.rope->elements(i);
    const double a = channels[2 * i], b = channels[2 * i + 1];
    key[first] = static_cast<float>(a * cosines[i] - b * sines[i]);
    key[second] = static_cast<float>(b * cosines[i] + a * sines[i]);
  }
}

void decode_value(const BlockFormat& f, const std::byte* block, int row, float* value) noexcept {
  const ValueSide side(f, block);
  const float scale = load_float(side.scales, row), offset = load_float(side.offsets, row);
  std::fill_n(value, f.padded_v, 0.f);
  for (int d = 0; d < f.dim_v; ++d) {
    const Place at = value_place(f, row, d);
    const int code = code_of(block + f.v_codes + at.unit * kNuqLanes * f.bits, f.bits, at.field, at.lane);
    value[d] = std::fma(f.levels_v[code], scale, offset);
  }
  for (int i = 0; i < f.outliers_v; ++i) {
    const std::uint32_t word = load_word(side.residuals, std::int64_t{row} * f.outliers_v + i);
    value[place_of(word)] += residual_of(word);
  }
}

}  // namespace

std::shared_ptr<const NuqTables> nuq_tables(std::shared_ptr<const NuqCalibration> calibration, std::int32_t layer,
                                            std::int32_t head, std::int32_t bits) {
  const auto tables = std::make_shared<NuqTables>();
  const NuqShape& shape = calibration->shape();
  const NuqLayer& of_layer = calibration->layer(layer);
  const auto channels = static_cast<std::size_t>(padded(shape.head_dim_k));
  const auto mask = (std::size_t{1} << bits) - 1;
  tables->keys.assign(channels * kNuqLevels, 0.f);
  tables->scale.assign(channels, 0.f);
  tables->offset.assign(channels, 0.f);
  for (std::size_t c = 0; c < channels; ++c) {
    const auto [first, second] = calibration->rope().elements(static_cast<std::int32_t>(c / 2));
    const std::int32_t element = c % 2 == 0 ? first : second;
    if (element >= shape.head_dim_k) continue;  // padding stays zero
    const auto& range = of_layer.channels[static_cast<std::size_t>(head * shape.head_dim_k + element)];
    tables->scale[c] = range.scale;
    tables->offset[c] = range.offset;
    for (std::size_t j = 0; j < kNuqLevels; ++j)
      tables->keys[c * kNuqLevels + j] = std::fma(of_layer.of_k(bits)[j & mask], range.scale, range.offset);
  }
  for (std::size_t j = 0; j < kNuqLevels; ++j) tables->values.push_back(of_layer.of_v(bits)[j & mask]);
  tables->calibration = std::move(calibration);
  return tables;
}

BlockFormat nuq_format(const NuqTables& tables, std::int32_t bits, std::int32_t key_outliers) {
  const NuqShape& shape = tables.calibration->shape();
  BlockFormat f;
  f.kind = CodecKind::nuq;
  f.bits = bits;
  f.dim_k = shape.head_dim_k;
  f.dim_v = shape.head_dim_v;
  f.padded_k = padded(shape.head_dim_k);
  f.padded_v = padded(shape.head_dim_v);
  f.block_rows = kNuqBlockRows;
  f.outliers = key_outliers;
  f.outliers_v = 2 * shape.value_outliers();
  f.k_stride = f.padded_k * bits / 8;
  f.v_stride = f.padded_v * bits / 8;
  f.k_side = f.k_codes + kNuqBlockRows * f.k_stride;
  f.v_codes = f.k_side + std::int64_t{4} * kNuqBlockRows * f.outliers;
  f.v_side = f.v_codes + kNuqBlockRows * f.v_stride;
  f.block_bytes = f.v_side + std::int64_t{4} * kNuqBlockRows * (2 + f.outliers_v);  // all parts are multiples of 64
  f.code_bytes = f.block_bytes;
  f.rope = &tables.calibration->rope();
  f.rope_turns = f.rope->turns();
  f.rope_pairs = f.rope->num_rotated();
  f.rope_interleaved = f.rope->rope().interleaved;
  f.prepared_dim = 2 * f.rope->padded_pairs();
  f.levels_k = tables.keys.data();
  f.levels_v = tables.values.data();
  f.channel_scale = tables.scale.data();
  f.channel_offset = tables.offset.data();
  return f;
}

void encode_nuq(const BlockFormat& format, const float* k, const float* v, std::int64_t first_position,
                std::byte* block) noexcept {
  float channels[kMaxHeadDim];
  std::memset(block, 0, static_cast<std::size_t>(format.block_bytes));
  for (int row = 0; row < kNuqBlockRows; ++row) {
    turned_back(format, k + static_cast<std::ptrdiff_t>(row) * format.padded_k, first_position + row, channels);
    encode_key(format, row, channels, block);
    encode_value(format, row, v + static_cast<std::ptrdiff_t>(row) * format.padded_v, block);
  }
}

void decode_nuq(const BlockFormat& format, const std::byte* block, std::int64_t first_position, int first, int count,
                float* k, float* v) noexcept {
  for (int i = 0; i < count; ++i) {
    decode_key(format, block, first + i, first_position + first + i,
               k + static_cast<std::ptrdiff_t>(i) * format.padded_k);
    decode_value(format, block, first + i, v + static_cast<std::ptrdiff_t>(i) * format.padded_v);
  }
}

}  // namespace tandem::cpu
