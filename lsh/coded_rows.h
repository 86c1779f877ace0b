#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/kv_store.h"
#include "cpu/page_pool.h"
#include "lsh/select_request.h"
#include "lsh/sketch_map.h"
#include "lsh/sketch_params.h"
#include "lsh/sketch_scratch.h"

namespace tandem::lsh {

/// Codes lie in pages of this many rows.
inline constexpr std::int64_t kCodePageBlocks = 32;
inline constexpr std::int64_t kCodePageRows = kCodePageBlocks * cpu::kSketchBlockRows;

/// The first `size` rows of a head in codes of one map.
///
/// Full pages are immutable and may be shared. A partly filled last page is written by code_rows(): of the values that
/// share one, only one may go on; cut() makes a page for others.
struct CodedRows {
  std::shared_ptr<const SketchMap> map;  ///< null: nothing is coded
  std::vector<cpu::PageRef> pages;
  std::int64_t size = 0;

  [[nodiscard]] std::int64_t page_bytes() const noexcept { return kCodePageBlocks * map->format.block_bytes(); }
  [[nodiscard]] const std::byte* block(std::int64_t index) const noexcept {
    return pages[static_cast<std::size_t>(index / kCodePageBlocks)].get() +
           index % kCodePageBlocks * map->format.block_bytes();
  }
  /// The first `rows` rows, ready to go on. Throws Error(out_of_memory).
  [[nodiscard]] CodedRows cut(std::int64_t rows, const IndexMemory& memory) const;
};

/// Calibrates on the first `rows` rows of `store`: a code of one bit per dimension where that certifies, unless the
/// parameters say otherwise. The ledger counts the map once, whoever shares it. Throws Error(out_of_memory).
std::shared_ptr<const SketchMap> fit_map(const cpu::Kernels& kernels, const cpu::KvStore& store, std::int64_t rows,
                                         const SketchParams& params, const CalibrationQueries& queries,
                                         const IndexMemory& memory);

/// Codes rows [coded.size, end) of `store`, many of them by memory.coder. Throws Error(out_of_memory), or what that
/// throws, and then coded.size is as it was.
void code_rows(const cpu::Kernels& kernels, const cpu::KvStore& store, std::int64_t end, const IndexMemory& memory,
               SketchScratch& scratch, CodedRows& coded);

}  // namespace tandem::lsh
