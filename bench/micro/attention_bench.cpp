// Attention of one KV head, GQA group of 4, head_dim 128, on cold rows: dense over all rows, sparse over every 50th.
#include <memory>
#include <string>

#include <benchmark/benchmark.h>

#include "bench/micro/cold_heads.h"
#include "cpu/dense_attention.h"
#include "cpu/sparse_attention.h"
#include "runtime/base/error.h"

namespace tandem::bench {
namespace {

constexpr int kGroup = 4, kHeadDim = 128;
constexpr std::int64_t kRows = 32768;

struct Output {
  std::vector<float> out = std::vector<float>(kGroup * kHeadDim), lse = std::vector<float>(kGroup),
                     variance = std::vector<float>(kGroup);
  [[nodiscard]] PartialAttention view() { return {out.data(), lse.data(), kGroup, kHeadDim}; }
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
  state.SetBytesProcessed(state.iterations() * rows * layout.kv_bytes);
  state.counters["per_row"] = benchmark::Counter(static_cast<double>(state.iterations() * rows),
                                                 benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
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
  report(state, kRows, heads.layout());
}

void sparse(benchmark::State& state, cpu::Isa isa, DType dtype) {
  ColdHeads& heads = heads_of(dtype);
  const auto q = random_queries(heads.layout(), kGroup);
  const std::int64_t position = kRows;
  cpu::Selection selection;
  for (std::uint32_t r = 7; r < kRows; r += 50) {
    selection.rows.push_back(r);
    selection.head_mask.push_back(0xf);
  }
  cpu::AttentionScratch scratch;
  Output output;
  for (auto _ : state) {
    cpu::sparse_attention(cpu::kernels_for(isa), heads.next(), 0, selection, {q.data(), &position, 1, kGroup}, {},
                          scratch, output.view(), {output.variance.data()});
    benchmark::DoNotOptimize(output.out.data());
  }
  report(state, static_cast<std::int64_t>(selection.rows.size()), heads.layout());
}

const bool registered = [] {
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    for (const cpu::Isa isa : cpu::available_isas()) {
      const std::string suffix = concat("/", to_string(dtype), "/", cpu::to_string(isa));
      benchmark::RegisterBenchmark(("dense_attention" + suffix).c_str(),
                                   [=](benchmark::State& s) { dense(s, isa, dtype); });
      benchmark::RegisterBenchmark(("sparse_attention" + suffix).c_str(),
                                   [=](benchmark::State& s) { sparse(s, isa, dtype); });
    }
  }
  return true;
}();

}  // namespace
}  // namespace tandem::bench
