#include "tools/probes/arithmetic.h"

#include <cmath>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tandem::probes {
namespace {

constexpr std::int64_t kSteps = 1'000'000;
constexpr int kChains = 12;  // more than latency times ports, fewer than registers
constexpr float kFactor = 0.999f, kAddend = 0.001f;

/// Operations that it did.
using Kernel = double (*)();

double generic() {
  constexpr int kLanes = 4;
  float x[kChains][kLanes] = {};
  for (std::int64_t i = 0; i < kSteps; ++i) {
    for (auto& chain : x) {
      for (float& lane : chain) {
#if defined(__ARM_FEATURE_FMA)
        lane = std::fma(lane, kFactor, kAddend);
#else
        lane = lane * kFactor + kAddend;
#endif
      }
    }
  }
  keep(&x);
  return 2.0 * kSteps * kChains * kLanes;
}

#if defined(__x86_64__)
[[gnu::target("avx512f")]] double avx512() {
  __m512 x[kChains];
  for (auto& chain : x) chain = _mm512_setzero_ps();
  const __m512 factor = _mm512_set1_ps(kFactor), addend = _mm512_set1_ps(kAddend);
  for (std::int64_t i = 0; i < kSteps; ++i) {
#pragma GCC unroll 12
    for (auto& chain : x) chain = _mm512_fmadd_ps(chain, factor, addend);
  }
#pragma GCC unroll 12
  for (auto& chain : x) asm volatile("" : : "v"(chain));
  return 2.0 * kSteps * kChains * 16;
}

[[gnu::target("avx2,fma")]] double avx2() {
  __m256 x[kChains];
  for (auto& chain : x) chain = _mm256_setzero_ps();
  const __m256 factor = _mm256_set1_ps(kFactor), addend = _mm256_set1_ps(kAddend);
  for (std::int64_t i = 0; i < kSteps; ++i) {
#pragma GCC unroll 12
    for (auto& chain : x) chain = _mm256_fmadd_ps(chain, factor, addend);
  }
#pragma GCC unroll 12
  for (auto& chain : x) asm volatile("" : : "x"(chain));
  return 2.0 * kSteps * kChains * 8;
}

Kernel widest() {
  if (__builtin_cpu_supports("avx512f")) return avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2;
  return generic;
}
#else
Kernel widest() { return generic; }
#endif

}  // namespace

double fma_gflop_per_s(Team& team) {
  const Kernel kernel = widest();
  std::vector<double> operations(static_cast<std::size_t>(team.members()));
  const double us = team.run([&](int t) { operations[static_cast<std::size_t>(t)] = kernel(); });
  double total = 0;
  for (const double one : operations) total += one;
  return total / (us * 1000);
}

}  // namespace tandem::probes
