#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "cpu/aligned_vector.h"
#include "cpu/kernels.h"
#include "lsh/query_tables.h"
#include "runtime/base/shape.h"

namespace tandem::lsh {

/// What the scan of one piece of the rows found: candidates, and sums over the rows that are not certain.
struct SketchPiece {
  cpu::SketchCandidates found;
  std::array<double, kMaxGroupSize> uncertain_weights;
  double uncertain_share;
  std::int64_t uncertain_rows;

  cpu::AlignedVector<std::uint32_t> rows;  // memory of `found`
  cpu::AlignedVector<float> shares, uniforms, weights;
};

/// Memory of one worker for coding rows and for drawing them.
struct SketchScratch {
  cpu::AlignedVector<float> keys, z;  // of a chunk to code
  std::vector<std::byte*> blocks;     // of rows that a coder codes
  QueryTables queries;
  cpu::AlignedVector<float> estimates, shares;  // of the sampled blocks: (group_size, rows), (rows)
  std::vector<SketchPiece> pieces;
  std::vector<float> certain_shares;
  std::vector<std::pair<float, std::uint32_t>> largest;  // shares and rows
};

}  // namespace tandem::lsh
