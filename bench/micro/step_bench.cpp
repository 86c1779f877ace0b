// A whole exact decode step of one sequence with one KV head of 131,072 rows: what several workers make of a single
// head.
#include <vector>

#include <benchmark/benchmark.h>

#include "runtime/base/random.h"
#include "runtime/runtime.h"

namespace tandem::bench {
namespace {

constexpr std::int64_t kTokens = 131072, kChunk = 1024;
constexpr int kDim = 128, kGroup = 4;

/// Layers take turns, so that what a step reads was last touched more than a last-level cache ago.
Config config_for(int workers, int layers) {
  Config config;
  config.shape = resolved({layers, kGroup, 1, kDim, kDim, 0.f, 0.f});
  config.window = {4, 256, DType::bf16};
  config.host_dtype = DType::bf16;
  config.num_workers = workers;
  return config;
}

void exact_step(benchmark::State& state) {
  const std::int64_t bytes = kTokens * kDim * 4;
  const auto layers = static_cast<int>(numa::Topology::detect().last_level_cache_bytes() * 5 / 4 / bytes + 2);
  Runtime runtime(config_for(static_cast<int>(state.range(0)), layers));
  CounterRandom random(4, 0);
  std::vector<float> k(kChunk * kDim), q(kGroup * kDim), out(kGroup * kDim);
  for (float& x : k) x = static_cast<float>(random.normal());
  for (float& x : q) x = static_cast<float>(random.normal());
  const std::uint64_t sequence = runtime.create_sequence();
  const std::int64_t one = 1;
  for (int layer = 0; layer < layers; ++layer) {
    for (std::int64_t begin = 0; begin < kTokens; begin += kChunk) {
      AppendRequest request;
      request.layer = layer;
      request.sequences = {&sequence, 1};
      request.num_tokens = {&kChunk, 1};
      request.kv.k = request.kv.v = dense_view(std::as_const(k).data(), DType::f32, kChunk, 1, kDim);
      runtime.append(request);
    }
  }
  AttendRequest request;
  request.sequences = {&sequence, 1};
  request.num_queries = {&one, 1};
  request.q = dense_view(std::as_const(q).data(), DType::f32, 1, kGroup, kDim);
  request.out = dense_view(out.data(), DType::f32, 1, kGroup, kDim);
  for (auto _ : state) {
    runtime.attend(request);
    request.layer = (request.layer + 1) % layers;
  }
  state.SetBytesProcessed(state.iterations() * bytes);
}
BENCHMARK(exact_step)->ArgName("workers")->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tandem::bench
