#include "cpu/codec/simhash.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "runtime/base/random.h"

namespace tandem::cpu {
namespace {

// Streams of CounterRandom, far from those of Gaussian planes, which are the planes' numbers.
constexpr std::uint64_t kSignStream = std::uint64_t{1} << 32;
constexpr std::uint64_t kSampleStream = std::uint64_t{2} << 32;

/// `count` <= 16 bits of a bit string that starts at bit `first`.
std::uint16_t extract_bits(const std::uint64_t* words, int first, int count) noexcept {
  const int shift = first % 64;
  std::uint64_t value = words[first / 64] >> shift;
  if (shift + count > 64) value |= words[first / 64 + 1] << (64 - shift);
  return static_cast<std::uint16_t>(value & ((1u << count) - 1u));
}

/// Independent directions, (padded dim, num_bits); those beyond `used` are zero.
AlignedVector<float> gaussian_planes(std::uint64_t seed, int dim, int used, int num_bits) {
  AlignedVector<float> planes(static_cast<std::size_t>(padded(dim)) * static_cast<std::size_t>(num_bits), 0.f);
  for (int plane = 0; plane < used; ++plane) {
    CounterRandom random(seed, static_cast<std::uint64_t>(plane));
    for (int d = 0; d < dim; ++d)
      planes[static_cast<std::size_t>(d * num_bits + plane)] = static_cast<float>(random.normal());
  }
  return planes;
}

AlignedVector<float> random_signs(std::uint64_t seed, int count) {
  AlignedVector<float> signs(static_cast<std::size_t>(count));
  CounterRandom random(seed, kSignStream);
  for (float& sign : signs) sign = (random.next() >> 63) == 0 ? 1.f : -1.f;
  return signs;
}

/// For every table, `per_table` of `num_bits` bits without replacement: the head of a shuffle.
std::vector<std::uint16_t> sample_bits(std::uint64_t seed, int num_bits, int per_table, int num_tables) {
  std::vector<std::uint16_t> order(static_cast<std::size_t>(num_bits)), sampled;
  for (int t = 0; t < num_tables; ++t) {
    CounterRandom random(seed, kSampleStream + static_cast<std::uint64_t>(t));
    std::iota(order.begin(), order.end(), std::uint16_t{0});
    for (int i = 0; i < per_table; ++i) {
      std::swap(order[static_cast<std::size_t>(i)],
                order[static_cast<std::size_t>(i) + random.below(static_cast<std::uint64_t>(num_bits - i))]);
    }
    sampled.insert(sampled.end(), order.begin(), order.begin() + per_table);
  }
  return sampled;
}

double binomial(int n, int k) {
  double result = 1;
  for (int i = 1; i <= k; ++i) result *= static_cast<double>(n - k + i) / i;
  return n < k ? 0.0 : result;
}

}  // namespace

SimHash::SimHash(std::uint64_t seed, int dim, const SimHashParams& params) : params_(params), padded_dim_(padded(dim)) {
  const int used = params.bits_per_table * params.num_tables;
  if (params.planes == HashPlanes::gaussian) {
    num_bits_ = (used + 63) / 64 * 64;
    planes_ = gaussian_planes(seed, dim, used, num_bits_);
    sampled_.resize(static_cast<std::size_t>(used));
    std::iota(sampled_.begin(), sampled_.end(), std::uint16_t{0});
  } else {
    block_ = static_cast<int>(std::bit_ceil(static_cast<unsigned>(padded_dim_)));
    const int num_blocks = (params.shared_bits + block_ - 1) / block_;
    num_bits_ = num_blocks * block_;
    planes_ = random_signs(seed, (1 + num_blocks) * block_);
    sampled_ = sample_bits(seed, num_bits_, params.bits_per_table, params.num_tables);
  }
}

void SimHash::encode(const Kernels& kernels, const float* vectors, std::int64_t num_vectors, std::uint16_t* codes,
                     HashScratch& scratch) const {
  for (std::int64_t first = 0; first < num_vectors; first += kCodeBlock) {
    const auto count = static_cast<int>(std::min<std::int64_t>(kCodeBlock, num_vectors - first));
    encode_block(kernels, vectors + first * padded_dim_, count, codes + code_index(first, 0), scratch);
  }
}

void SimHash::encode_block(const Kernels& kernels, const float* vectors, int count, std::uint16_t* codes,
                           HashScratch& scratch) const {
  if (params_.planes == HashPlanes::hadamard) {
    scratch.bits.resize(static_cast<std::size_t>(num_bits_));
    scratch.work.resize(static_cast<std::size_t>(block_) * 32);
    kernels.simhash.hadamard_bits(vectors, count, {planes_.data(), padded_dim_, block_, num_bits_ / block_},
                                  scratch.work.data(), scratch.bits.data());
    kernels.simhash.sample_codes(scratch.bits.data(), count, sampled_.data(), params_.bits_per_table,
                                 params_.num_tables, codes);
    return;
  }
  const int words = num_bits_ / 64;
  scratch.bits.resize(static_cast<std::size_t>(count) * static_cast<std::size_t>(words));
  kernels.simhash.sign_bits(vectors, count, padded_dim_, planes_.data(), num_bits_, scratch.bits.data());
  for (int v = 0; v < count; ++v) {
    for (int t = 0; t < params_.num_tables; ++t) {
      codes[code_index(v, t)] =
          extract_bits(scratch.bits.data() + v * words, t * params_.bits_per_table, params_.bits_per_table);
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
