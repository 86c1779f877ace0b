// Window attention on coded blocks beside that on bf16 rows and beside the mere reading of the same bytes: one KV head
// of head_dim 128, one query head or a GQA group of 4; 4,096 tokens of one head that stays in the cache, or 32,768 of
// heads that together exceed the last-level cache several times.
#include <cstring>
#include <memory>
#include <string>

#include <benchmark/benchmark.h>

#include "bench/micro/cold_heads.h"
#include "cpu/attention_pass.h"
#include "cpu/codec/block_codec.h"
#include "cpu/codec/nuq_fit.h"
#include "cpu/dense_attention.h"
#include "numa/host_buffer.h"
#include "runtime/base/error.h"
#include "tools/probes/read_lines.h"

namespace tandem::bench {
namespace {

constexpr int kHeadDim = 128;
constexpr std::int64_t kCachedTokens = 4096, kColdTokens = 32768;

constexpr cpu::RopeParams kRope{5e5, 0, false};

/// Of normal keys and values, as the blocks hold.
std::shared_ptr<const cpu::NuqCalibration> nuq_calibration() {
  constexpr std::int64_t kTokens = 512;
  const cpu::NuqShape shape{1, 1, kHeadDim, kHeadDim, kRope, 0.01};
  CounterRandom random(4, 0);
  std::vector<float> k(kTokens * kHeadDim), v(kTokens * kHeadDim);
  for (auto* x : {&k, &v}) {
    for (float& element : *x) element = static_cast<float>(random.normal());
  }
  const std::vector<std::int32_t> bits{2, 3, 4};
  return std::make_shared<const cpu::NuqCalibration>(
      shape, std::vector{cpu::fit_nuq_layer(shape, {kTokens, k.data(), v.data()}, bits)});
}

struct Spec {
  Spec(cpu::CodecKind kind, int bits = 0, int group = 0) {
    params.kind = kind;
    if (bits != 0) params.bits = bits;
    if (group != 0) params.group = group;
    name = cpu::to_string(kind);
    if (bits != 0) name += std::to_string(bits);
    if (group != 0) name += "_group" + std::to_string(group);
    if (kind == cpu::CodecKind::nuq) {
      static const auto calibration = nuq_calibration();
      params.calibration = calibration;
    }
  }
  static Spec qjl(int sketch_bits, int outliers) {
    Spec spec(cpu::CodecKind::qjl);
    spec.params.sketch_bits = sketch_bits;
    spec.params.outliers = outliers;
    spec.name += concat(sketch_bits, "_outliers", outliers);
    return spec;
  }
  cpu::CodecParams params;
  std::string name;
};

std::vector<Spec> specs() {
  using Kind = cpu::CodecKind;
  return {Kind::int8,           Kind::fp8,         {Kind::kivi, 4, 32}, {Kind::kivi, 4, 128}, {Kind::kivi, 2, 32},
          {Kind::kivi, 2, 128}, Spec::qjl(256, 0), Spec::qjl(256, 8),   {Kind::nuq, 4},       {Kind::nuq, 3},
          {Kind::nuq, 2}};
}

struct KeysAndValues {
  cpu::AlignedVector<float> k, v;
};

KeysAndValues normal_rows(int count) {
  CounterRandom random(3, 0);
  const auto size = static_cast<std::size_t>(count * kHeadDim);
  KeysAndValues rows{cpu::AlignedVector<float>(size), cpu::AlignedVector<float>(size)};
  for (auto* x : {&rows.k, &rows.v}) {
    for (float& element : *x) element = static_cast<float>(random.normal());
  }
  return rows;
}

/// Heads of coded blocks, which next() hands out in turn. One block of normal values, repeated.
class CodedHeads {
 public:
  CodedHeads(const cpu::CodecParams& params, std::int64_t tokens, bool cold)
      : codec_(params, resolved({1, 1, 1, kHeadDim, kHeadDim, 0.f, 0.f}), kRope, 0, 0),
        topology_(numa::Topology::detect()),
        ledger_(topology_.memory_limit_bytes() / 2) {
    const cpu::BlockFormat& format = codec_.format();
    const auto [k, v] = normal_rows(format.block_rows);
    cpu::AlignedVector<std::byte> block(static_cast<std::size_t>(format.block_bytes));
    codec_.encode(k.data(), v.data(), 0, block.data());
    head_bytes_ = tokens / format.block_rows * format.block_bytes;
    const std::int64_t cache = topology_.last_level_cache_bytes();
    num_heads_ = cold ? std::max(4 * cache, std::int64_t{256} << 20) / head_bytes_ + 1 : 1;
    const std::int64_t all = num_heads_ * head_bytes_;
    bytes_ = numa::HostBuffer::on_node(topology_, 0, all, ledger_, "coded heads");
    for (std::int64_t at = 0; at < all; at += format.block_bytes)
      std::memcpy(bytes_.data() + at, block.data(), block.size());
  }
  const std::byte* next() { return bytes_.data() + next_++ % num_heads_ * head_bytes_; }
  [[nodiscard]] const cpu::BlockFormat& format() const { return codec_.format(); }
  [[nodiscard]] std::int64_t head_bytes() const { return head_bytes_; }

 private:
  cpu::BlockCodec codec_;
  std::int64_t head_bytes_, num_heads_, next_ = 0;
  numa::Topology topology_;
  numa::MemoryLedger ledger_;
  numa::HostBuffer bytes_;
};

std::int64_t tokens_of(bool cold) { return cold ? kColdTokens : kCachedTokens; }

void report(benchmark::State& state, std::int64_t tokens, double bytes_of_token) {
  const auto total = static_cast<double>(state.iterations() * tokens);
  state.SetBytesProcessed(static_cast<std::int64_t>(total * bytes_of_token));
  state.counters["per_token"] = benchmark::Counter(total, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["bytes_per_token"] = bytes_of_token;
}

struct Output {
  explicit Output(int group) : out(static_cast<std::size_t>(group * kHeadDim)), lse(static_cast<std::size_t>(group)) {}
  [[nodiscard]] PartialAttention view() {
    return {out.data(), lse.data(), static_cast<std::int64_t>(lse.size()), kHeadDim};
  }
  std::vector<float> out, lse;
};

void coded(benchmark::State& state, cpu::Isa isa, int group, const cpu::CodecParams& params, bool cold) {
  CodedHeads heads(params, tokens_of(cold), cold);
  const auto q =
      random_queries(cpu::RowLayout::of(resolved({1, 1, 1, kHeadDim, kHeadDim, 0.f, 0.f}), DType::f32), group);
  const std::int64_t position = tokens_of(cold);
  const cpu::QueryBlock queries{q.data(), &position, 1, group};
  cpu::AttentionScratch scratch;
  Output output(group);
  for (auto _ : state) {
    cpu::AttentionPass pass(cpu::kernels_for(isa), heads.format(), queries, {}, scratch);
    pass.add_coded_run(heads.next(), 0, tokens_of(cold), 0);
    pass.finish(output.view());
    benchmark::DoNotOptimize(output.out.data());
  }
  report(state, tokens_of(cold), static_cast<double>(heads.head_bytes()) / static_cast<double>(tokens_of(cold)));
}

/// On the processor that there is: encoding has one form for all instruction sets.
void coded_encode(benchmark::State& state, const cpu::CodecParams& params) {
  const cpu::BlockCodec codec(params, resolved({1, 1, 1, kHeadDim, kHeadDim, 0.f, 0.f}), {}, 0, 0);
  const auto [k, v] = normal_rows(codec.format().block_rows);
  cpu::AlignedVector<std::byte> block(static_cast<std::size_t>(codec.format().block_bytes));
  for (auto _ : state) {
    codec.encode(k.data(), v.data(), 0, block.data());
    benchmark::DoNotOptimize(block.data());
  }
  report(state, codec.format().block_rows, 4.0 * 2 * kHeadDim);
}

void coded_read(benchmark::State& state, const cpu::CodecParams& params, bool cold) {
  CodedHeads heads(params, tokens_of(cold), cold);
  std::uint64_t total = 0;
  for (auto _ : state) {
    total ^= probes::read_lines(heads.next(), heads.head_bytes());
    benchmark::DoNotOptimize(total);
  }
  report(state, tokens_of(cold), static_cast<double>(heads.head_bytes()) / static_cast<double>(tokens_of(cold)));
}

void rows(benchmark::State& state, cpu::Isa isa, int group, bool cold) {
  ColdHeads heads(kHeadDim, DType::bf16, tokens_of(cold));
  const auto q = random_queries(heads.layout(), group);
  const std::int64_t position = tokens_of(cold);
  cpu::AttentionScratch scratch;
  Output output(group);
  for (auto _ : state) {
    const cpu::KvStore& store = cold ? heads.next() : heads.all().front();
    cpu::dense_attention(cpu::kernels_for(isa), store, 0, {q.data(), &position, 1, group}, {}, scratch, output.view());
    benchmark::DoNotOptimize(output.out.data());
  }
  report(state, tokens_of(cold), static_cast<double>(heads.layout().row_bytes));
}

void register_group(cpu::Isa isa, int group, bool cold) {
  const std::string suffix = concat("/heads:", group, cold ? "/cold/" : "/cached/", cpu::to_string(isa));
  benchmark::RegisterBenchmark(("coded_attention/bf16_rows" + suffix).c_str(),
                               [=](benchmark::State& s) { rows(s, isa, group, cold); });
  for (const Spec& spec : specs()) {
    benchmark::RegisterBenchmark(("coded_attention/" + spec.name + suffix).c_str(),
                                 [=](benchmark::State& s) { coded(s, isa, group, spec.params, cold); });
  }
}

const bool registered = [] {
  for (const Spec& spec : specs()) {
    benchmark::RegisterBenchmark(("coded_encode/" + spec.name).c_str(),
                                 [=](benchmark::State& s) { coded_encode(s, spec.params); });
  }
  for (const bool cold : {false, true}) {
    for (const Spec& spec : specs()) {
      benchmark::RegisterBenchmark(concat("coded_read/", spec.name, cold ? "/cold" : "/cached").c_str(),
                                   [=](benchmark::State& s) { coded_read(s, spec.params, cold); });
    }
    for (const cpu::Isa isa : cpu::available_isas()) {
      for (const int group : {1, 4}) register_group(isa, group, cold);
    }
  }
  return true;
}();

}  // namespace
}  // namespace tandem::bench
