#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "cpu/aligned_vector.h"
#include "cpu/codec/qjl.h"
#include "cpu/row_layout.h"
#include "runtime/base/random.h"
#include "tests/support/codecs.h"

namespace tandem::testing {

/// Independent normal vectors (count, padded(dim)), padding zero.
inline cpu::AlignedVector<float> normal_rows(int count, int dim, std::uint64_t seed) {
  CounterRandom random(seed, 77);
  cpu::AlignedVector<float> rows(static_cast<std::size_t>(count * cpu::padded(dim)), 0.f);
  for (int r = 0; r < count; ++r) {
    for (int c = 0; c < dim; ++c)
      rows[static_cast<std::size_t>(r * cpu::padded(dim) + c)] = static_cast<float>(random.normal());
  }
  return rows;
}

inline double dot(const float* a, const float* b, int n) {
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

/// The keys' part of one block of QJL, read back bit by bit as its header documents it, in double.
struct CodedKeys {
  static constexpr int kDimV = 32;

  CodedKeys(const cpu::CodecParams& params, int dim, const float* keys)
      : format(cpu::qjl_format(params, resolved({1, 1, 1, dim, kDimV, 0.f, 0.f}))) {
    projection = cpu::set_qjl_projection(params, format);
    block.resize(static_cast<std::size_t>(format.block_bytes));
    const cpu::AlignedVector<float> values(cpu::kQjlBlockRows * kDimV, 0.f);
    cpu::encode_qjl(format, keys, values.data(), block.data());
  }
  /// Of rows [first, first + count).
  [[nodiscard]] cpu::AlignedVector<float> decoded(int first, int count) const {
    cpu::AlignedVector<float> k(static_cast<std::size_t>(count * format.padded_k), 7.f);
    cpu::AlignedVector<float> v(static_cast<std::size_t>(count * kDimV));
    cpu::decode_qjl(format, block.data(), first, count, k.data(), v.data());
    return k;
  }

  [[nodiscard]] double direction(int channel, int column) const {
    return format.projection[static_cast<std::ptrdiff_t>(channel) * format.sketch_bits + column];
  }
  /// 1 or -1: sign `column` of the inlier or the outlier part of a row.
  [[nodiscard]] int sign(int row, int column, bool outlier) const {
    const int bit = column + (outlier ? format.sketch_bits : 0);
    const std::byte byte = block[static_cast<std::size_t>(format.k_codes + row / 16 * 16 * format.k_stride +
                                                          bit / 32 * 64 + row % 16 * 4 + bit % 32 / 8)];
    return (std::to_integer<int>(byte) >> bit % 8 & 1) != 0 ? 1 : -1;
  }
  [[nodiscard]] double norm(int row, bool outlier) const {
    std::uint16_t bits = 0;
    std::memcpy(&bits, block.data() + format.k_side + (outlier ? 128 : 0) + 2 * row, 2);
    return std::ldexp(1.0 + (bits & 255) / 256.0, (bits >> 8) - 127);  // of what is not subnormal
  }
  [[nodiscard]] bool is_outlier(int row, int channel) const {
    for (int o = 0; o < format.outliers; ++o) {
      const auto at = static_cast<std::size_t>(format.k_side + 256 + row / 32 * format.outliers + o);
      if (std::to_integer<int>(block[at]) == channel) return true;
    }
    return false;
  }

  /// <S_j, x> for all columns j, of x seen in the channels of one part of a row's group only.
  [[nodiscard]] std::vector<double> sketch(const float* x, int row, bool outlier) const {
    std::vector<double> sums(static_cast<std::size_t>(format.sketch_bits), 0.0);
    for (int c = 0; c < format.dim_k; ++c) {
      if (is_outlier(row, c) != outlier) continue;
      for (std::size_t j = 0; j < sums.size(); ++j) sums[j] += x[c] * direction(c, static_cast<int>(j));
    }
    return sums;
  }
  /// The estimate of one part of <q, k>, from a sketch of q.
  [[nodiscard]] double estimate(const std::vector<double>& q_sketch, int row, bool outlier) const {
    const int bits = outlier ? format.outlier_bits : format.sketch_bits;
    double sum = 0;
    for (int j = 0; j < bits; ++j) sum += sign(row, j, outlier) * q_sketch[static_cast<std::size_t>(j)];
    return format.k_factor * format.sketch_bits / bits * norm(row, outlier) * sum;
  }
  [[nodiscard]] double estimate(const float* q, int row) const {
    const double inlier = estimate(sketch(q, row, false), row, false);
    return format.outliers == 0 ? inlier : inlier + estimate(sketch(q, row, true), row, true);
  }

  cpu::BlockFormat format;
  std::shared_ptr<const void> projection;
  std::vector<std::byte> block;
};

}  // namespace tandem::testing
