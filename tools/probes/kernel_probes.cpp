#include "tools/probes/kernel_probes.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cpu/attention_pass.h"
#include "cpu/codec/block_codec.h"
#include "cpu/codec/nuq_fit.h"
#include "cpu/dense_attention.h"
#include "cpu/sparse_attention.h"
#include "runtime/base/error.h"
#include "runtime/base/random.h"
#include "tools/probes/host_probes.h"
#include "tools/probes/memory_reader.h"

namespace tandem::probes {
namespace {

constexpr int kHeadDim = 128, kGroup = 4;
constexpr std::int64_t kStride = 50, kMiB = std::int64_t{1} << 20;
constexpr double kFlopPerRow = 2.0 * 2 * kHeadDim * kGroup;
constexpr cpu::RopeParams kRope{5e5, 0, false};

AttentionShape shape() { return resolved({1, 1, 1, kHeadDim, kHeadDim, 0.f, 0.f}); }

void fill_normal(cpu::AlignedVector<float>& x, std::uint64_t seed, double scale) {
  CounterRandom random(3, seed);
  for (float& element : x) element = static_cast<float>(random.normal() * scale);
}

struct KeysAndValues {
  explicit KeysAndValues(std::int64_t rows)
      : k(static_cast<std::size_t>(rows * kHeadDim)), v(static_cast<std::size_t>(rows * kHeadDim)) {
    fill_normal(k, 0, 1);
    fill_normal(v, 1, 1);
  }
  cpu::AlignedVector<float> k, v;
};

/// What one thread computes with and into.
struct Worker {
  cpu::AttentionScratch scratch;
  cpu::AlignedVector<float> out = cpu::AlignedVector<float>(kGroup * kHeadDim), value = out;
  std::vector<float> lse = std::vector<float>(kGroup), weight = lse, square = lse;
  cpu::Selection selection;

  [[nodiscard]] PartialAttention view() { return {out.data(), lse.data(), kGroup, kHeadDim}; }
  [[nodiscard]] cpu::SampleSpread spread() { return {weight.data(), value.data(), square.data()}; }
};

struct NamedCodec {
  std::string name;
  cpu::CodecParams params;
};

std::shared_ptr<const cpu::NuqCalibration> nuq_calibration() {
  constexpr std::int64_t kTokens = 512;
  const cpu::NuqShape nuq{1, 1, kHeadDim, kHeadDim, kRope, 0.01};
  const KeysAndValues rows(kTokens);
  const std::vector<std::int32_t> bits{2, 3, 4};
  return std::make_shared<const cpu::NuqCalibration>(
      nuq, std::vector{cpu::fit_nuq_layer(nuq, {kTokens, rows.k.data(), rows.v.data()}, bits)});
}

NamedCodec named(std::string name, cpu::CodecKind kind, int bits = 4, int group = 32) {
  NamedCodec codec{std::move(name), {}};
  codec.params.kind = kind;
  codec.params.bits = bits;
  codec.params.group = group;
  return codec;
}

std::vector<NamedCodec> codecs() {
  using Kind = cpu::CodecKind;
  std::vector<NamedCodec> all = {named("int8", Kind::int8), named("fp8", Kind::fp8)};
  for (const int bits : {4, 2})
    for (const int group : {32, 128})
      all.push_back(named(concat("kivi", bits, " group ", group), Kind::kivi, bits, group));
  all.push_back(named("qjl256", Kind::qjl));
  const auto calibration = nuq_calibration();
  for (const int bits : {4, 3, 2}) {
    all.push_back(named(concat("nuq", bits), Kind::nuq, bits));
    all.back().params.calibration = calibration;
  }
  return all;
}

/// Heads of coded blocks, one per thread: one block of normal values, repeated.
struct CodedHeads {
  CodedHeads(const numa::Topology& topology, numa::MemoryLedger& ledger, const cpu::CodecParams& params, int heads,
             std::int64_t wanted_rows)
      : codec(params, shape(), kRope, 0, 0),
        rows(wanted_rows / codec.format().block_rows * codec.format().block_rows),
        head_bytes(rows / codec.format().block_rows * codec.format().block_bytes),
        bytes(numa::HostBuffer::on_node(topology, 0, heads * head_bytes, ledger, "coded heads")) {
    const KeysAndValues made(codec.format().block_rows);
    cpu::AlignedVector<std::byte> block(static_cast<std::size_t>(codec.format().block_bytes));
    codec.encode(made.k.data(), made.v.data(), 0, block.data());
    for (std::int64_t at = 0; at < bytes.bytes(); at += codec.format().block_bytes)
      std::memcpy(bytes.data() + at, block.data(), block.size());
  }

  cpu::BlockCodec codec;
  std::int64_t rows, head_bytes;
  numa::HostBuffer bytes;
};

}  // namespace

struct KernelProbes::State {
  struct Probe {
    KernelMeasurement what;
    std::function<double(std::int64_t round)> go;
    std::vector<double> values = {};
  };

  State(const numa::Topology& given, const cpu::Kernels& given_kernels, std::int64_t given_rows)
      : topology(given),
        kernels(given_kernels),
        rows(given_rows / cpu::kPageRows * cpu::kPageRows),
        team(given, {given.nodes().front().cpus.begin(), given.nodes().front().cpus.begin() + usable_cores(given, 0)}),
        ledger(given.memory_limit_bytes() / 2),
        wash(given, std::max(given.last_level_cache_bytes() * 5 / 4, 64 * kMiB)),
        pool(given, 0, layout.page_bytes(), ledger),
        workers(static_cast<std::size_t>(team.members())),
        queries(static_cast<std::size_t>(kGroup * layout.padded_k)) {
    fill_normal(queries, 2, 1.0 / 11);
    make_stores();
    add({"dense bf16", static_cast<double>(layout.row_bytes), kFlopPerRow}, rows,
        [this](std::int64_t, int t) { dense(t); });
    add({"gather bf16", static_cast<double>(layout.row_bytes), kFlopPerRow}, rows / kStride,
        [this](std::int64_t round, int t) { gather(round, t); });
    for (const NamedCodec& codec : codecs()) {
      const auto heads = std::make_shared<CodedHeads>(topology, ledger, codec.params, team.members(), rows);
      const double row_bytes = static_cast<double>(heads->head_bytes) / static_cast<double>(heads->rows);
      add({"window " + codec.name, row_bytes, kFlopPerRow}, heads->rows,
          [this, heads](std::int64_t, int t) { window(*heads, t); });
    }
  }

  /// Normal values would take minutes for this many rows: one page of them, repeated.
  void make_stores() {
    const KeysAndValues made(cpu::kPageRows);
    std::vector<std::byte> page(static_cast<std::size_t>(layout.page_bytes()));
    for (int r = 0; r < cpu::kPageRows; ++r)
      cpu::write_row(layout, DType::f32, reinterpret_cast<const std::byte*>(made.k.data() + r * kHeadDim),
                     reinterpret_cast<const std::byte*>(made.v.data() + r * kHeadDim),
                     page.data() + r * layout.row_bytes);
    for (int t = 0; t < team.members(); ++t) {
      stores.emplace_back(layout, pool);
      stores.back().reserve(rows);
      for (std::int64_t r = 0; r < rows; r += cpu::kPageRows) stores.back().append(page.data(), cpu::kPageRows);
    }
  }

  /// work(round, t) of every member t over `member_rows` rows.
  template <typename Work>
  void add(KernelMeasurement what, std::int64_t member_rows, Work work) {
    const double bytes = what.bytes_per_row * static_cast<double>(member_rows * team.members());
    probes.push_back({std::move(what), [this, bytes, work](std::int64_t round) {
                        (void)wash.read(team.members());
                        return bytes / (1000 * team.run([&](int t) { work(round, t); }));
                      }});
  }

  [[nodiscard]] cpu::QueryBlock query() const { return {queries.data(), &rows, 1, kGroup}; }

  void dense(int t) {
    Worker& w = workers[static_cast<std::size_t>(t)];
    cpu::dense_attention(kernels, stores[static_cast<std::size_t>(t)], 0, query(), {}, w.scratch, w.view());
  }

  void gather(std::int64_t round, int t) {
    Worker& w = workers[static_cast<std::size_t>(t)];
    w.selection.clear();
    for (std::int64_t i = 0; i < rows / kStride; ++i) {
      w.selection.rows.push_back(static_cast<std::uint32_t>(i * kStride + round * 7 % kStride));
      w.selection.head_mask.push_back((1u << kGroup) - 1);
    }
    cpu::sparse_attention(kernels, stores[static_cast<std::size_t>(t)], 0, w.selection, query(), {}, w.scratch,
                          w.view(), w.spread());
  }

  void window(const CodedHeads& heads, int t) {
    Worker& w = workers[static_cast<std::size_t>(t)];
    cpu::AttentionPass pass(kernels, heads.codec.format(), query(), {}, w.scratch);
    pass.add_coded_run(heads.bytes.data() + t * heads.head_bytes, 0, heads.rows, 0);
    pass.finish(w.view());
  }

  const numa::Topology topology;
  const cpu::Kernels& kernels;
  const std::int64_t rows;
  Team team;
  numa::MemoryLedger ledger;
  MemoryReader wash;
  cpu::RowLayout layout = cpu::RowLayout::of(shape(), DType::bf16);
  cpu::PagePool pool;
  std::vector<cpu::KvStore> stores;
  std::vector<Worker> workers;
  cpu::AlignedVector<float> queries;
  std::vector<Probe> probes;
  std::int64_t rounds = 0;
};

KernelProbes::KernelProbes(const numa::Topology& topology, const cpu::Kernels& kernels, std::int64_t rows)
    : state_(std::make_unique<State>(topology, kernels, rows)) {}

KernelProbes::~KernelProbes() = default;

int KernelProbes::size() const noexcept { return static_cast<int>(state_->probes.size()); }

void KernelProbes::round(const std::function<void()>& tick) {
  for (State::Probe& probe : state_->probes) {
    probe.values.push_back(probe.go(state_->rounds));
    tick();
  }
  ++state_->rounds;
}

std::vector<KernelMeasurement> KernelProbes::measurements() const {
  std::vector<KernelMeasurement> all;
  for (const State::Probe& probe : state_->probes) {
    all.push_back(probe.what);
    all.back().gb_per_s = spread_of(probe.values);
  }
  return all;
}

}  // namespace tandem::probes
