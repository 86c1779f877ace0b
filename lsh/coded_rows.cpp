#include "lsh/coded_rows.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace tandem::lsh {
namespace {

constexpr std::int64_t kChunkRows = 256;  // that are centred, transformed and coded together

/// A map and its place in the ledger.
struct CountedMap {
  SketchMap map;
  numa::Reservation memory;
};

std::int64_t whole_blocks(std::int64_t rows) noexcept {
  return (rows + cpu::kSketchBlockRows - 1) / cpu::kSketchBlockRows * cpu::kSketchBlockRows;
}

/// Codes rows [begin, end) into the pages of `coded`.
void code_chunks(const cpu::Kernels& kernels, const cpu::KvStore& store, std::int64_t begin, std::int64_t end,
                 SketchScratch& scratch, const CodedRows& coded) {
  const SketchMap& map = *coded.map;
  const int padded_k = store.layout().padded_k;
  const int padded_dims = map.format.padded_dims;
  scratch.keys.resize(static_cast<std::size_t>(kChunkRows * padded_k));
  scratch.z.resize(static_cast<std::size_t>(kChunkRows * padded_dims));
  const auto centre = kernels.sketch.centre[store.layout().dtype];
  std::array<const std::byte*, kChunkRows> rows;
  while (begin < end) {
    const std::int64_t page = begin / kCodePageRows;
    const std::int64_t last = std::min({end, begin + kChunkRows, (page + 1) * kCodePageRows});
    const auto count = static_cast<int>(last - begin);
    store.rows(begin, count, rows.data());
    centre(rows.data(), count, padded_k, map.mean.data(), scratch.keys.data());
    kernels.sketch.project(scratch.keys.data(), count, padded_k, map.key_planes.data(), padded_dims, scratch.z.data());
    kernels.sketch.encode(map.format, scratch.z.data(), count, coded.pages[static_cast<std::size_t>(page)].get(),
                          begin % kCodePageRows);
    begin = last;
  }
}

/// Has memory.coder code rows [begin, end), where they are many; `begin` is a multiple of kSketchBlockRows. False where
/// that was not done.
bool hand_over(const cpu::Kernels& kernels, const cpu::KvStore& store, std::int64_t begin, std::int64_t end,
               const IndexMemory& memory, SketchScratch& scratch, const CodedRows& coded) {
  if (end - begin < cpu::kFewestRowsToHandOver || memory.coder == nullptr || !*memory.coder) return false;
  scratch.blocks.clear();
  const SketchMap& map = *coded.map;
  for (std::int64_t b = begin / cpu::kSketchBlockRows; b * cpu::kSketchBlockRows < end; ++b) {
    scratch.blocks.push_back(coded.pages[static_cast<std::size_t>(b / kCodePageBlocks)].get() +
                             b % kCodePageBlocks * map.format.block_bytes());
  }
  return (*memory.coder)({&store, begin, end - begin, map.mean.data(),
                          cpu::SketchTables{&map.format, map.key_planes.data()}, coded.map, cpu::fuses(kernels.isa),
                          scratch.blocks.data()});
}

}  // namespace

CodedRows CodedRows::cut(std::int64_t rows, const IndexMemory& memory) const {
  CodedRows copy;
  copy.map = map;
  copy.size = rows;
  const auto full = static_cast<std::size_t>(rows / kCodePageRows);
  copy.pages.assign(pages.begin(), pages.begin() + static_cast<std::ptrdiff_t>(full));
  if (rows % kCodePageRows != 0) {
    copy.pages.push_back(memory.pools->of(memory.node, page_bytes()).allocate());
    std::memcpy(copy.pages.back().get(), pages[full].get(), static_cast<std::size_t>(page_bytes()));
  }
  return copy;
}

std::shared_ptr<const SketchMap> fit_map(const cpu::Kernels& kernels, const cpu::KvStore& store, std::int64_t rows,
                                         const SketchParams& params, const CalibrationQueries& queries,
                                         const IndexMemory& memory) {
  auto counted = std::make_shared<CountedMap>();
  counted->map = calibrate(kernels, store, rows, std::max(1, params.bits_per_dim), queries, params.seed);
  if (params.bits_per_dim == 0 && counted->map.sigma > kCertifiedSigma) {
    counted->map = calibrate(kernels, store, rows, 2, queries, params.seed);
  }
  counted->memory = memory.ledger->reserve(counted->map.bytes(), "sketch map");
  const SketchMap* map = &counted->map;
  return {std::move(counted), map};
}

void code_rows(const cpu::Kernels& kernels, const cpu::KvStore& store, std::int64_t end, const IndexMemory& memory,
               SketchScratch& scratch, CodedRows& coded) {
  cpu::PagePool& pool = memory.pools->of(memory.node, coded.page_bytes());
  while (static_cast<std::int64_t>(coded.pages.size()) * kCodePageRows < end) {
    coded.pages.push_back(pool.allocate());
    std::memset(coded.pages.back().get(), 0, static_cast<std::size_t>(pool.page_bytes()));
  }
  const std::int64_t whole = std::min(end, whole_blocks(coded.size));  // a coder writes whole blocks
  code_chunks(kernels, store, coded.size, whole, scratch, coded);
  if (!hand_over(kernels, store, whole, end, memory, scratch, coded))
    code_chunks(kernels, store, whole, end, scratch, coded);
  coded.size = std::max(coded.size, end);
}

}  // namespace tandem::lsh
