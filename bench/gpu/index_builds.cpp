#include "bench/gpu/index_builds.h"

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "lsh/coded_rows.h"
#include "lsh/tables.h"
#include "runtime/base/random.h"
#include "runtime/base/trace.h"

namespace tandem::bench {
namespace {

constexpr std::int64_t kRows = 65536;
constexpr std::int64_t kQuickRows = 1088;

/// A head of normal keys in bf16.
class IndexedHead {
 public:
  IndexedHead(std::int32_t head_dim, std::int64_t rows)
      : layout_(cpu::RowLayout::of(resolved({1, 1, 1, head_dim, head_dim, 0.f, 0.f}), DType::bf16)),
        store_(layout_, pools_.of(0, layout_.page_bytes())) {
    CounterRandom random(3, 0);
    std::vector<float> key(static_cast<std::size_t>(head_dim));
    std::vector<std::byte> row(static_cast<std::size_t>(layout_.row_bytes));
    store_.reserve(rows);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (float& x : key) x = static_cast<float>(random.normal());
      const auto* bytes = reinterpret_cast<const std::byte*>(key.data());
      cpu::write_row(layout_, DType::f32, bytes, bytes, row.data());
      store_.append(row.data(), 1);
    }
  }
  [[nodiscard]] lsh::IndexMemory memory(const cpu::KeyCoder* coder) { return {&ledger_, &pools_, 0, nullptr, coder}; }
  [[nodiscard]] const cpu::KvStore& store() const noexcept { return store_; }
  [[nodiscard]] const cpu::Kernels& kernels() const noexcept { return kernels_; }

 private:
  numa::Topology topology_ = numa::Topology::detect();
  numa::MemoryLedger ledger_{topology_.memory_limit_bytes() / 2};
  cpu::PagePools pools_{topology_, ledger_};
  cpu::RowLayout layout_;
  cpu::KvStore store_;
  const cpu::Kernels& kernels_ = cpu::kernels_for(cpu::choose_isa(std::nullopt));
};

/// Builds in turn, with the coder and without.
Json measured(const std::string& name, const IndexedHead& head, const cpu::KeyCoder& coder, std::int64_t repetitions,
              const std::function<void(const cpu::KeyCoder*)>& build) {
  build(&coder);  // memory of either side grows
  build(nullptr);
  std::vector<double> device_us, worker_us;
  for (std::int64_t i = 0; i < repetitions; ++i) {
    Stopwatch watch;
    build(&coder);
    device_us.push_back(watch.lap_us());
    build(nullptr);
    worker_us.push_back(watch.lap_us());
  }
  return {{"name", name},
          {"rows", head.store().size()},
          {"device_us", quartiles_of(device_us)},
          {"worker_us", quartiles_of(worker_us)}};
}

Json measure_sketches(IndexedHead& head, int bits, const cpu::KeyCoder& coder, std::int64_t repetitions) {
  const lsh::IndexMemory plain = head.memory(nullptr);
  const auto map = lsh::fit_map(head.kernels(), head.store(), head.store().size(), {.bits_per_dim = bits}, {}, plain);
  lsh::SketchScratch scratch;
  const auto build = [&](const cpu::KeyCoder* by) {
    lsh::CodedRows coded;
    coded.map = map;
    lsh::code_rows(head.kernels(), head.store(), head.store().size(), head.memory(by), scratch, coded);
    return coded;
  };
  Json result = measured("sketch" + std::to_string(bits), head, coder, repetitions,
                         [&](const cpu::KeyCoder* by) { (void)build(by); });
  const lsh::CodedRows with = build(&coder), without = build(nullptr);
  bool equal = with.pages.size() == without.pages.size();
  for (std::size_t p = 0; equal && p < with.pages.size(); ++p) {
    equal = std::memcmp(with.pages[p].get(), without.pages[p].get(), static_cast<std::size_t>(with.page_bytes())) == 0;
  }
  result["equal"] = equal;
  return result;
}

Json measure_tables(IndexedHead& head, cpu::HashPlanes planes, std::int32_t head_dim, const cpu::KeyCoder& coder,
                    std::int64_t repetitions) {
  lsh::LshParams params;
  params.planes = planes;
  const auto hash = std::make_shared<const cpu::SimHash>(params.seed, head_dim, lsh::hash_params(params));
  lsh::TablesScratch scratch;
  return measured(planes == cpu::HashPlanes::hadamard ? "simhash_hadamard" : "simhash_gaussian", head, coder,
                  repetitions, [&](const cpu::KeyCoder* by) {
                    lsh::LshTables tables(params, hash, *head.memory(by).ledger, by);
                    tables.extend(head.kernels(), head.store(), scratch);
                  });
}

}  // namespace

Json measure_index_builds(gpu::Device& device, const GpuOptions& options) {
  const cpu::KeyCoder coder = [&device](const cpu::KeyCoding& coding) {
    return device.code_keys(coding, gpu::kWindowStream);
  };
  IndexedHead head(options.head_dim, options.quick ? kQuickRows : kRows);
  const std::int64_t repetitions = options.plan.repetitions;
  return Json::array({measure_sketches(head, 1, coder, repetitions), measure_sketches(head, 2, coder, repetitions),
                      measure_tables(head, cpu::HashPlanes::hadamard, options.head_dim, coder, repetitions),
                      measure_tables(head, cpu::HashPlanes::gaussian, options.head_dim, coder, repetitions)});
}

}  // namespace tandem::bench
