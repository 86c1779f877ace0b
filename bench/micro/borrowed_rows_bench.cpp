// A decode step of one layer over an engine's rows: 8 KV heads, 32 query heads, 128 dimensions, one thread, cold rows
// (layers take turns). Counters: share of the rows that was gathered, and the error that the step estimates of itself.
#include <cstring>
#include <vector>

#include <benchmark/benchmark.h>

#include "runtime/base/random.h"
#include "runtime/runtime.h"

namespace tandem::bench {
namespace {

constexpr int kDim = 128, kKvHeads = 8, kQHeads = 32, kLayers = 3;

Config config_with(double budget) {
  Config config;
  config.shape = resolved({kLayers, kQHeads, kKvHeads, kDim, kDim, 0.f, 0.f});
  config.window = {4, 256, DType::f32};
  if (budget > 0) {
    lsh::SketchParams sketch;
    sketch.budget = budget;
    config.selector = sketch;
  }
  config.num_workers = 1;
  return config;
}

/// Bytes of normal elements of `dtype`; what a block of small integers and a scale stands for is as good.
std::vector<std::byte> elements(DType dtype, std::int64_t count, std::uint64_t seed) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(bytes_of(dtype, count)));
  CounterRandom random(seed, 0);
  if (is_blocked(dtype)) {
    for (std::byte& b : bytes) b = static_cast<std::byte>(random.next());
    const std::uint16_t scale = f32_to_f16(dtype == DType::q8_0 ? 1.f / 74 : 1.f / 4.6f);  // of unit variance
    const std::int64_t block = bytes_of(dtype, kBlockElements);
    for (std::int64_t at = 0; at < static_cast<std::int64_t>(bytes.size()); at += block)
      std::memcpy(bytes.data() + at, &scale, sizeof(scale));
    return bytes;
  }
  std::vector<float> values(1 << 16);
  for (float& x : values) x = static_cast<float>(random.normal());
  for (std::int64_t at = 0; at < count; at += static_cast<std::int64_t>(values.size())) {
    store_f32(dtype, values.data(), bytes.data() + bytes_of(dtype, at),
              std::min(count - at, static_cast<std::int64_t>(values.size())));
    std::rotate(values.begin(), values.begin() + 12347, values.end());  // no two pieces alike
  }
  return bytes;
}

/// Arguments: rows, dtype, budget in tenths of a percent (0: exact).
void borrowed_step(benchmark::State& state) {
  const std::int64_t rows = state.range(0), width = rows * kKvHeads * kDim;
  const auto dtype = static_cast<DType>(state.range(1));
  Runtime runtime(config_with(static_cast<double>(state.range(2)) / 1000));
  std::vector<std::vector<std::byte>> memory;
  std::vector<std::uint64_t> pools;
  for (int layer = 0; layer < kLayers; ++layer) {
    const auto seed = static_cast<std::uint64_t>(2 * layer);
    memory.push_back(elements(dtype, width, seed));
    memory.push_back(elements(dtype, width, seed + 1));
    const auto view = [&](const std::vector<std::byte>& bytes) {
      return dense_view(bytes.data(), dtype, rows, kKvHeads, kDim);
    };
    pools.push_back(runtime.bind_pool(layer, {view(memory[memory.size() - 2]), view(memory.back())}, 4));
  }
  std::vector<float> q(kQHeads * kDim), out(kQHeads * kDim);
  CounterRandom random(9, 0);
  // As a decode sees them: a mask of zeros, one column more at every step.
  const std::vector<std::uint16_t> mask(static_cast<std::size_t>(rows), 0);
  AttendRowsRequest request;
  request.visible.num_queries = 1;
  request.visible.mask = mask.data();
  request.q = dense_view(std::as_const(q).data(), DType::f32, 1, kQHeads, kDim);
  request.out = dense_view(out.data(), DType::f32, 1, kQHeads, kDim);
  StepStats stats;
  std::int64_t step = 0;
  const auto next = [&] {
    for (float& x : q) x = static_cast<float>(random.normal());
    request.visible.num_columns = std::min(rows, rows - 4096 + step / kLayers);
    request.pool = pools[static_cast<std::size_t>(step++ % kLayers)];
    stats = runtime.attend_rows(request);
  };
  while (step < kLayers * 40) next();  // until the sketches are there
  for (auto _ : state) next();
  state.counters["gathered"] = static_cast<double>(stats.rows_gathered) / static_cast<double>(stats.rows_host);
  state.counters["error"] = stats.out_error;
}
BENCHMARK(borrowed_step)
    ->ArgNames({"rows", "dtype", "budget"})
    ->ArgsProduct({{32768}, {1, 5, 6}, {0, 20, 10}})
    ->Args({8192, 1, 0})
    ->Args({8192, 1, 20})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace tandem::bench
