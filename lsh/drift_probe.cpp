#include "lsh/drift_probe.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace tandem::lsh {
namespace {

constexpr int kBlock = cpu::kSketchBlockRows;
constexpr int kPlanes = cpu::kDimPadding;  // the kernel's least: the queries, and zeros
static_assert(DriftProbe::kQueries <= kPlanes);

/// Queries, as exact logits and as estimates take them.
struct Probe {
  int count = 0;
  cpu::AlignedVector<float> planes;  // (padded_k, kPlanes): a query is a column
  cpu::SketchQuery query;
};

Probe prepared(const cpu::Kernels& kernels, const SketchMap& map, const cpu::AlignedVector<float>& vectors,
               int padded_k, SketchScratch& scratch) {
  Probe probe;
  probe.count = static_cast<int>(vectors.size()) / padded_k;
  probe.planes.assign(static_cast<std::size_t>(padded_k) * kPlanes, 0.f);
  for (int v = 0; v < probe.count; ++v) {
    for (int d = 0; d < padded_k; ++d)
      probe.planes[static_cast<std::size_t>(d * kPlanes + v)] = vectors[static_cast<std::size_t>(v * padded_k + d)];
  }
  scratch.queries.prepare(kernels.sketch, map, vectors.data(), probe.count, padded_k,
                          map.slope * map.format.factor_scale);
  probe.query = scratch.queries.view();
  return probe;
}

/// The mean square of exact logits minus estimates over one block.
double block_variance(const cpu::Kernels& kernels, const cpu::KvStore& store, const CodedRows& rows, std::int64_t block,
                      const Probe& probe, SketchScratch& scratch) {
  const int padded_k = store.layout().padded_k;
  std::array<const std::byte*, kBlock> pointers;
  store.rows(block * kBlock, kBlock, pointers.data());
  scratch.keys.resize(std::max(scratch.keys.size(), static_cast<std::size_t>(kBlock * padded_k)));
  scratch.z.resize(std::max(scratch.z.size(), static_cast<std::size_t>(kBlock * kPlanes)));
  scratch.estimates.resize(std::max(scratch.estimates.size(), static_cast<std::size_t>(kBlock * probe.count)));
  kernels.sketch.centre[store.layout().dtype](pointers.data(), kBlock, padded_k, rows.map->mean.data(),
                                              scratch.keys.data());
  float* exact = scratch.z.data();
  kernels.sketch.project(scratch.keys.data(), kBlock, padded_k, probe.planes.data(), kPlanes, exact);
  kernels.sketch.estimates(probe.query, rows.block(block), scratch.estimates.data(), kBlock);
  double squares = 0;
  for (int v = 0; v < probe.count; ++v) {
    for (int r = 0; r < kBlock; ++r) {
      const double residual = static_cast<double>(exact[r * kPlanes + v]) -
                              static_cast<double>(scratch.estimates[static_cast<std::size_t>(v * kBlock + r)]);
      squares += residual * residual;
    }
  }
  return squares / (kBlock * probe.count);
}

}  // namespace

void DriftProbe::observe(const cpu::Kernels& kernels, const cpu::KvStore& store, const CodedRows& rows,
                         std::int64_t first, const QueryLog& queries, SketchScratch& scratch) {
  const std::int64_t end = rows.size / kBlock;
  const std::int64_t begin = std::max(first / kBlock, end - kBlocks);
  if (begin >= end || queries.num_vectors() == 0 || !std::isfinite(variance_)) return;
  const Probe probe = prepared(kernels, *rows.map, queries.spread(kQueries), store.layout().padded_k, scratch);
  for (std::int64_t block = begin; block < end; ++block) {
    const double seen = block_variance(kernels, store, rows, block, probe, scratch);
    if (std::isfinite(seen)) variance_ += (seen - variance_) / kMemory;
  }
}

double DriftProbe::sigma(const SketchMap& map) const noexcept { return std::max(map.sigma, std::sqrt(variance_)); }

bool DriftProbe::drifted(const SketchMap& map) const noexcept {
  return std::isfinite(map.sigma) && std::sqrt(variance_) > kMostGrowth * std::max(map.sigma, kFloor);
}

}  // namespace tandem::lsh
