// Single kernels of every instruction set of this machine, on data that fits in the caches: what the arithmetic costs.
#include <string>

#include <benchmark/benchmark.h>

#include "cpu/aligned_vector.h"
#include "cpu/kernels.h"
#include "runtime/base/error.h"
#include "runtime/base/random.h"

namespace tandem::bench {
namespace {

cpu::AlignedVector<float> normals(std::size_t count, std::uint64_t seed) {
  cpu::AlignedVector<float> values(count, 0.f);
  CounterRandom random(seed, 0);
  for (float& x : values) x = static_cast<float>(random.normal());
  return values;
}

/// Seconds per item.
void report(benchmark::State& state, std::int64_t items) {
  state.counters["per_item"] = benchmark::Counter(static_cast<double>(state.iterations() * items),
                                                  benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

/// Items: values.
void softcap(benchmark::State& state, const cpu::Kernels& kernels) {
  auto scores = normals(4096, 2);
  for (auto _ : state) {
    kernels.softcap(scores.data(), std::ssize(scores), 50.f);
    benchmark::DoNotOptimize(scores.data());
  }
  report(state, std::ssize(scores));
}

/// Items: vectors of 128 elements, each with 10 x 150 planes.
void sign_bits(benchmark::State& state, const cpu::Kernels& kernels) {
  constexpr int kDim = 128, kPlanes = 1536, kVectors = 64;
  const auto vectors = normals(std::size_t{kVectors} * kDim, 3);
  const auto planes = normals(std::size_t{kDim} * kPlanes, 4);
  std::vector<std::uint64_t> bits(std::size_t{kVectors} * kPlanes / 64);
  for (auto _ : state) {
    kernels.simhash.sign_bits(vectors.data(), kVectors, kDim, planes.data(), kPlanes, bits.data());
    benchmark::DoNotOptimize(bits.data());
  }
  report(state, kVectors);
}

const bool registered = [] {
  for (const cpu::Isa isa : cpu::available_isas()) {
    const auto add = [isa](const char* name, void (*run)(benchmark::State&, const cpu::Kernels&)) {
      benchmark::RegisterBenchmark(concat("kernel_", name, "/", cpu::to_string(isa)).c_str(),
                                   [=](benchmark::State& state) { run(state, cpu::kernels_for(isa)); });
    };
    add("softcap", softcap);
    add("sign_bits", sign_bits);
  }
  return true;
}();

}  // namespace
}  // namespace tandem::bench
