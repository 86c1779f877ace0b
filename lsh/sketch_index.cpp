#include "lsh/sketch_index.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "runtime/base/random.h"

namespace tandem::lsh {
namespace {

constexpr std::int64_t kChunkRows = 256;  // that are centred, transformed and coded together

}  // namespace

bool SketchIndex::lacks_rows_of(const cpu::KvStore& store, const QueryLog& queries) const noexcept {
  if (map_ == nullptr) return store.size() >= kFewestRows && queries.num_vectors() >= kFewestObserved;
  return size_ < store.size();
}

SketchIndex::Extension SketchIndex::prepare(const cpu::Kernels& kernels, const cpu::KvStore& store,
                                            const QueryLog& queries, SketchScratch& scratch) const {
  Extension next;
  next.map = map_;
  next.pages = pages_;
  next.size = store.size();
  if (next.map == nullptr) {
    const CalibrationQueries observed{queries.half(false), queries.half(true)};
    auto map = calibrate(kernels, store, store.size(), std::max(1, params_.bits_per_dim), observed, params_.seed);
    if (params_.bits_per_dim == 0 && map.sigma > kCertifiedSigma) {
      map = calibrate(kernels, store, store.size(), 2, observed, params_.seed);
    }
    next.map_memory = memory_.ledger->reserve(map.bytes(), "sketch map");
    next.map = std::make_shared<const SketchMap>(std::move(map));
  }
  cpu::PagePool& pool = memory_.pools->of(memory_.node, page_bytes(*next.map));
  while (static_cast<std::int64_t>(next.pages.size()) * kPageRows < next.size) {
    next.pages.push_back(pool.allocate());
    std::memset(next.pages.back().get(), 0, static_cast<std::size_t>(pool.page_bytes()));
  }
  const cpu::SketchFormat& format = next.map->format;
  const int padded_k = store.layout().padded_k;
  scratch.keys.resize(static_cast<std::size_t>(kChunkRows * padded_k));
  scratch.z.resize(static_cast<std::size_t>(kChunkRows * format.padded_dims));
  std::array<const std::byte*, kChunkRows> rows;
  // Rows from size_ on are written in place: nobody reads them before commit(), and forks have pages of their own.
  for (std::int64_t begin = size_; begin < next.size;) {
    const std::int64_t end = std::min({next.size, begin + kChunkRows, (begin / kPageRows + 1) * kPageRows});
    const auto count = static_cast<int>(end - begin);
    for (int i = 0; i < count; ++i) rows[static_cast<std::size_t>(i)] = store.row(begin + i);
    kernels.sketch.centre[static_cast<std::size_t>(store.layout().dtype)](rows.data(), count, padded_k,
                                                                          next.map->mean.data(), scratch.keys.data());
    kernels.sketch.project(scratch.keys.data(), count, padded_k, next.map->key_planes.data(), format.padded_dims,
                           scratch.z.data());
    kernels.sketch.encode(format, scratch.z.data(), count,
                          next.pages[static_cast<std::size_t>(begin / kPageRows)].get(), begin % kPageRows);
    begin = end;
  }
  return next;
}

void SketchIndex::commit(Extension&& extension) noexcept {
  map_ = std::move(extension.map);
  pages_ = std::move(extension.pages);
  size_ = extension.size;
  if (extension.map_memory.bytes() > 0) map_memory_ = std::move(extension.map_memory);
}

SketchIndex SketchIndex::fork(std::int64_t size) const {
  SketchIndex copy(params_, memory_, stream_);
  size = std::min(size, size_);
  if (size == 0 || map_ == nullptr) return copy;  // the next rows are a first build again, with a map of their own
  copy.map_memory_ = memory_.ledger->reserve(map_->bytes(), "sketch map");
  copy.map_ = map_;
  const auto full = static_cast<std::size_t>(size / kPageRows);
  copy.pages_.assign(pages_.begin(), pages_.begin() + static_cast<std::ptrdiff_t>(full));
  if (size % kPageRows != 0) {
    copy.pages_.push_back(memory_.pools->of(memory_.node, page_bytes()).allocate());
    std::memcpy(copy.pages_.back().get(), pages_[full].get(), static_cast<std::size_t>(page_bytes()));
  }
  copy.size_ = size;
  return copy;
}

void SketchIndex::select(const SelectRequest& request, SketchScratch& scratch, cpu::Selection& selection) const {
  selection.clear();
  const std::int64_t visible = request.end - request.begin;
  const std::int64_t wanted = params_.error > 0 ? pilot_rows(visible) : drawn_rows(params_.budget, visible);
  const std::int64_t budget = request.budget > 0 ? request.budget : wanted;
  const bool unknowable = params_.error > 0 && map_ != nullptr && map_->sigma > kCertifiedSigma;
  // Blocks cut by a mask at both ends would leave nothing for the pilot.
  if (map_ == nullptr || unknowable || visible <= std::max(budget, 4 * std::int64_t{cpu::kSketchBlockRows})) {
    selection.rows.resize(static_cast<std::size_t>(std::max<std::int64_t>(0, visible)));
    std::iota(selection.rows.begin(), selection.rows.end(), static_cast<std::uint32_t>(request.begin));
    return;
  }
  const auto position = static_cast<std::uint64_t>(request.queries.positions[0]);
  const std::uint64_t key = CounterRandom(params_.seed ^ stream_, position).next();
  draw_sketched_rows(params_, {*map_, pages_, kPageRows}, request, budget, key, scratch, selection);
}

std::int64_t SketchIndex::bytes() const noexcept {
  return map_ == nullptr ? 0 : static_cast<std::int64_t>(pages_.size()) * page_bytes() + map_->bytes();
}

}  // namespace tandem::lsh
