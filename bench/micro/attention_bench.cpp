// Attention of one KV head, GQA group of 4, head_dim 128, on cold rows: dense over all rows, sparse and sampled over
// every 50th.
#include <memory>
#include <string>

#include <benchmark/benchmark.h>

#include "bench/micro/cold_heads.h"
#include "cpu/dense_attention.h"
#include "cpu/sampled_attention.h"
#include "cpu/sparse_attention.h"
#include "runtime/base/error.h"

namespace tandem::bench {
namespace {

constexpr int kGroup = 4, kHeadDim = 128;
constexpr std::int64_t kRows = 32768;

struct Output {
  std::vector<float> out = std::vector<float>(kGroup * kHeadDim), lse = std::vector<float>(kGroup), weight = lse,
                     square = lse, value = out;
  [[nodiscard]] PartialAttention view() { return {out.data(), lse.data(), kGroup, kHeadDim}; }
  [[nodiscard]] cpu::SampleSpread spread() { return {weight.data(), value.data(), square.data()}; }
};

/// Only one set of cold heads is kept: each is larger than the last-level cache.
ColdHeads& heads_of(DType dtype) {
  static std::unique_ptr<ColdHeads> heads;
  if (!heads || heads->layout().dtype != dtype) {
    heads.reset();
    heads = std::make_unique<ColdHeads>(kHeadDim, dtype, kRows);
  }
  return *heads;
}

void report(benchmark::State& state, std::int64_t rows, const cpu::RowLayout& layout) {
  state.SetBytesProcessed(rows * layout.kv_bytes);
  state.counters["per_row"] =
      benchmark::Counter(static_cast<double>(rows), benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void dense(benchmark::State& state, cpu::Isa isa, DType dtype) {
  ColdHeads& heads = heads_of(dtype);
  const auto q = random_queries(heads.layout(), kGroup);
  const std::int64_t position = kRows;
  cpu::AttentionScratch scratch;
  Output output;
  for (auto _ : state) {
    cpu::dense_attention(cpu::kernels_for(isa), heads.next(), 0, {q.data(), &position, 1, kGroup}, {}, scratch,
                         output.view());
    benchmark::DoNotOptimize(output.out.data());
  }
  report(state, state.iterations() * kRows, heads.layout());
}

/// Every 50th row, as a mask of the heads or with a probability per row.
void gathered(benchmark::State& state, cpu::Isa isa, DType dtype, bool sampled) {
  constexpr std::int64_t kStride = 50;
  ColdHeads& heads = heads_of(dtype);
  const auto q = random_queries(heads.layout(), kGroup);
  const std::int64_t position = kRows;
  const cpu::QueryBlock query{q.data(), &position, 1, kGroup};
  const cpu::Kernels& kernels = cpu::kernels_for(isa);
  cpu::Selection selection;
  cpu::SampledRows sample;
  cpu::AttentionScratch scratch;
  Output output;
  std::int64_t rows = 0;
  for (auto _ : state) {
    selection.clear();
    for (std::int64_t r = heads.sample_offset(kStride); r < kRows; r += kStride) {
      selection.rows.push_back(static_cast<std::uint32_t>(r));
      selection.head_mask.push_back(0xf);
    }
    rows += static_cast<std::int64_t>(selection.rows.size());
    if (sampled) {
      sample.rows = selection.rows;
      sample.inclusion.assign(sample.rows.size(), 0.02f);
      cpu::sampled_attention(kernels, heads.next(), 0, sample, query, {}, scratch, output.view(), output.spread());
    } else {
      cpu::sparse_attention(kernels, heads.next(), 0, selection, query, {}, scratch, output.view(), output.spread());
    }
    benchmark::DoNotOptimize(output.out.data());
  }
  report(state, rows, heads.layout());
}

const bool registered = [] {
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32, DType::int8, DType::k8v4}) {
    for (const cpu::Isa isa : cpu::available_isas()) {
      const std::string suffix = concat("/", to_string(dtype), "/", cpu::to_string(isa));
      benchmark::RegisterBenchmark(("dense_attention" + suffix).c_str(),
                                   [=](benchmark::State& s) { dense(s, isa, dtype); });
      benchmark::RegisterBenchmark(("sparse_attention" + suffix).c_str(),
                                   [=](benchmark::State& s) { gathered(s, isa, dtype, false); });
      benchmark::RegisterBenchmark(("sampled_attention" + suffix).c_str(),
                                   [=](benchmark::State& s) { gathered(s, isa, dtype, true); });
    }
  }
  return true;
}();

}  // namespace
}  // namespace tandem::bench
