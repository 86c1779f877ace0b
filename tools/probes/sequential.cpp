#include "tools/probes/sequential.h"

#include <cstring>

#include "tools/probes/read_lines.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tandem::probes {
namespace {

constexpr std::int64_t kSliceBytes = 4096;  // slices begin at multiples of it
constexpr double kScalar = 3.0;

/// GB/s of work(first byte, bytes) over slices of arrays of `bytes`, which each count `times` times.
template <typename Work>
double swept(Team& team, std::int64_t bytes, int times, const Work& work) {
  const std::int64_t slice = bytes / team.members() / kSliceBytes * kSliceBytes;
  const double us = team.run([&](int t) { work(t * slice, slice); });
  return static_cast<double>(slice * team.members() * times) / (us * 1000);
}

[[gnu::noinline]]
#if defined(__x86_64__)
[[gnu::target_clones("avx512f", "avx2", "default")]]
#endif
void plain_copy(const std::byte* from, std::byte* to, std::int64_t bytes) {
  using Line [[gnu::vector_size(64)]] = double;
  for (std::int64_t i = 0; i < bytes; i += 64) {
    *reinterpret_cast<Line*>(to + i) = *reinterpret_cast<const Line*>(from + i);
    asm volatile("" : : : "memory");  // or the loop becomes a call of memcpy
  }
}

[[gnu::noinline]]
#if defined(__x86_64__)
[[gnu::target_clones("avx512f", "avx2", "default")]]
#endif
void triad(const std::byte* x, const std::byte* y, std::byte* to, std::int64_t bytes) {
  using Line [[gnu::vector_size(64)]] = double;
  for (std::int64_t i = 0; i < bytes; i += 64)
    *reinterpret_cast<Line*>(to + i) =
        *reinterpret_cast<const Line*>(x + i) + kScalar * *reinterpret_cast<const Line*>(y + i);
}

#if defined(__x86_64__)
[[gnu::target("avx")]] void streaming_copy(const std::byte* from, std::byte* to, std::int64_t bytes) {
  for (std::int64_t i = 0; i < bytes; i += 32)
    _mm256_stream_pd(reinterpret_cast<double*>(to + i), _mm256_load_pd(reinterpret_cast<const double*>(from + i)));
  _mm_sfence();
}

[[gnu::target("avx")]] void streaming_triad(const std::byte* x, const std::byte* y, std::byte* to, std::int64_t bytes) {
  const __m256d scalar = _mm256_set1_pd(kScalar);
  for (std::int64_t i = 0; i < bytes; i += 32) {
    const __m256d product = _mm256_mul_pd(scalar, _mm256_load_pd(reinterpret_cast<const double*>(y + i)));
    _mm256_stream_pd(reinterpret_cast<double*>(to + i),
                     _mm256_add_pd(_mm256_load_pd(reinterpret_cast<const double*>(x + i)), product));
  }
  _mm_sfence();
}
#endif

}  // namespace

double read_gb_per_s(Team& team, const std::byte* array, std::int64_t bytes) {
  return swept(team, bytes, 1, [&](std::int64_t first, std::int64_t count) { keep(read_lines(array + first, count)); });
}

double asking_read_gb_per_s(Team& team, const std::byte* array, std::int64_t bytes) {
  return swept(team, bytes, 1,
               [&](std::int64_t first, std::int64_t count) { keep(read_asking_ahead(array + first, count)); });
}

double interleaved_read_gb_per_s(Team& team, const std::byte* array, std::int64_t bytes) {
  return swept(team, bytes, 1,
               [&](std::int64_t first, std::int64_t count) { keep(read_interleaved(array + first, count)); });
}

double plain_copy_gb_per_s(Team& team, const std::byte* from, std::byte* to, std::int64_t bytes) {
  return swept(team, bytes, 2,
               [&](std::int64_t first, std::int64_t count) { plain_copy(from + first, to + first, count); });
}

double copy_gb_per_s(Team& team, const std::byte* from, std::byte* to, std::int64_t bytes) {
  return swept(team, bytes, 2, [&](std::int64_t first, std::int64_t count) {
    std::memcpy(to + first, from + first, static_cast<std::size_t>(count));
  });
}

double triad_gb_per_s(Team& team, const std::byte* x, const std::byte* y, std::byte* to, std::int64_t bytes) {
  return swept(team, bytes, 3,
               [&](std::int64_t first, std::int64_t count) { triad(x + first, y + first, to + first, count); });
}

#if defined(__x86_64__)
bool has_streaming_stores() noexcept { return __builtin_cpu_supports("avx") != 0; }

double streaming_copy_gb_per_s(Team& team, const std::byte* from, std::byte* to, std::int64_t bytes) {
  return swept(team, bytes, 2,
               [&](std::int64_t first, std::int64_t count) { streaming_copy(from + first, to + first, count); });
}

double streaming_triad_gb_per_s(Team& team, const std::byte* x, const std::byte* y, std::byte* to, std::int64_t bytes) {
  return swept(team, bytes, 3, [&](std::int64_t first, std::int64_t count) {
    streaming_triad(x + first, y + first, to + first, count);
  });
}
#else
bool has_streaming_stores() noexcept { return false; }
double streaming_copy_gb_per_s(Team& team, const std::byte* from, std::byte* to, std::int64_t bytes) {
  return copy_gb_per_s(team, from, to, bytes);
}
double streaming_triad_gb_per_s(Team& team, const std::byte* x, const std::byte* y, std::byte* to, std::int64_t bytes) {
  return triad_gb_per_s(team, x, y, to, bytes);
}
#endif

}  // namespace tandem::probes
