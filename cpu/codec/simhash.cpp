#include "cpu/codec/simhash.h"

#include <cmath>

#include "runtime/base/random.h"

namespace tandem::cpu {
namespace {

/// `count` <= 16 bits of a bit string that starts at bit `first`.
std::uint16_t extract_bits(const std::uint64_t* words, int first, int count) noexcept {
  const int shift = first % 64;
  std::uint64_t value = words[first / 64] >> shift;
  if (shift + count > 64) value |= words[first / 64 + 1] << (64 - shift);
  return static_cast<std::uint16_t>(value & ((1u << count) - 1u));
}

double binomial(int n, int k) {
  double result = 1;
  for (int i = 1; i <= k; ++i) result *= static_cast<double>(n - k + i) / i;
  return n < k ? 0.0 : result;
}

}  // namespace

SimHash::SimHash(std::uint64_t seed, int dim, int bits_per_table, int num_tables)
    : padded_dim_(padded(dim)),
      bits_per_table_(bits_per_table),
      num_tables_(num_tables),
      num_planes_((bits_per_table * num_tables + 63) / 64 * 64),
      planes_(static_cast<std::size_t>(padded_dim_) * static_cast<std::size_t>(num_planes_), 0.f) {
  const int used = bits_per_table * num_tables;
  for (int plane = 0; plane < used; ++plane) {
    CounterRandom random(seed, static_cast<std::uint64_t>(plane));
    for (int d = 0; d < dim; ++d)
      planes_[static_cast<std::size_t>(d * num_planes_ + plane)] = static_cast<float>(random.normal());
  }
}

void SimHash::encode(const Kernels& kernels, const float* vectors, std::int64_t num_vectors, std::uint16_t* codes,
                     AlignedVector<std::uint64_t>& bits) const {
  const int words = num_planes_ / 64;
  bits.resize(static_cast<std::size_t>(num_vectors) * static_cast<std::size_t>(words));
  kernels.sign_bits(vectors, num_vectors, padded_dim_, planes_.data(), num_planes_, bits.data());
  for (std::int64_t v = 0; v < num_vectors; ++v) {
    for (int t = 0; t < num_tables_; ++t) {
      codes[v * num_tables_ + t] = extract_bits(bits.data() + v * words, t * bits_per_table_, bits_per_table_);
    }
  }
}

CollisionWeight collision_weight(int bits_per_table, int num_tables, int min_collisions) {
  CollisionWeight weight;
  weight.bits_per_table = bits_per_table;
  const int m = min_collisions < num_tables ? min_collisions : num_tables;
  weight.leading_power = m;
  weight.power = static_cast<float>(num_tables - m + 1);
  weight.slope = m == 2 ? static_cast<float>(num_tables - 1) : 0.f;
  weight.series_below = 0.3f / static_cast<float>(num_tables);
  // The incomplete beta integral u = m C(L, m) int_0^x t^(m-1) (1 - t)^(L-m) dt, expanded and integrated term by term.
  for (int i = 0; i < CollisionWeight::kTerms; ++i) {
    const double sign = i % 2 == 0 ? 1.0 : -1.0;
    weight.series[i] = static_cast<float>(sign * m * binomial(num_tables, m) * binomial(num_tables - m, i) / (m + i));
  }
  return weight;
}

}  // namespace tandem::cpu
