// What window policies cost on the host, for one KV head.
#include <vector>

#include <benchmark/benchmark.h>

#include "gpu/window_policy/dmc.h"
#include "gpu/window_policy/window_policy.h"
#include "runtime/base/random.h"

namespace tandem::bench {
namespace {

std::vector<float> uniforms(std::int64_t count) {
  CounterRandom random(1, 0);
  std::vector<float> x(static_cast<std::size_t>(count));
  for (float& value : x) value = static_cast<float>(random.uniform());
  return x;
}

/// A decode step of H2O: masses are added; every 64th step, 64 tokens leave the recents.
void heavy_hitters_step(benchmark::State& state) {
  const auto kept = static_cast<std::int32_t>(state.range(0));
  constexpr std::int64_t kRecent = 256, kPage = 64;
  gpu::KeptTokens tokens = gpu::kept_tokens(gpu::HeavyHitters{kept}, 4, kRecent + kPage);
  const auto kept_mass = uniforms(kept), recent_mass = uniforms(kRecent + kPage);
  for (auto _ : state) {
    tokens.append(1);
    const auto recents = static_cast<std::size_t>(tokens.length() - tokens.recent_begin());
    tokens.accumulate({kept_mass, std::span(recent_mass).first(recents)});
    if (recents == recent_mass.size()) benchmark::DoNotOptimize(tokens.promote(kPage).data());
  }
}
BENCHMARK(heavy_hitters_step)->Arg(256)->Arg(2048);

/// One token of DMC at head_dim 128, in runs of this many tokens.
void dmc_token(benchmark::State& state) {
  constexpr std::int32_t kDim = 128;
  const std::int64_t run = state.range(0);
  gpu::DmcHead head({}, {.theta = state.range(1) != 0 ? 5e5 : 0.0}, kDim, kDim);
  const auto k = uniforms(kDim), v = uniforms(kDim);
  std::vector<float> key(kDim), value(kDim);
  std::vector<gpu::DmcEntry> entry(1);
  std::vector<gpu::DmcDecision> decision{{true, 0.5f}};
  for (auto _ : state) {
    decision[0].merge = head.tokens() % run != 0;
    head.append({k, v, decision}, key, value, entry);
    benchmark::DoNotOptimize(key.data());
  }
}
BENCHMARK(dmc_token)->ArgNames({"run", "rotated"})->ArgsProduct({{1, 4, 12, 1 << 20}, {0, 1}});

}  // namespace
}  // namespace tandem::bench
