#include "cpu/listed_attention.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <limits>

namespace tandem::cpu {
namespace {

/// The rows of a list, a block at a time.
class ListedBlocks {
 public:
  ListedBlocks(const RowLayout& layout, const std::byte* base, const RowRuns& rows, RowRange range, const RowBias& bias)
      : layout_(layout), base_(base), bias_(bias), runs_(rows.runs()), left_(std::min(range.end, rows.count())) {
    left_ -= std::min(left_, range.begin);
    std::int64_t skipped = range.begin;
    for (; run_ < runs_.size() && skipped >= runs_[run_].count; ++run_) skipped -= runs_[run_].count;
    taken_ = skipped;
  }

  /// False when there are none left. The values of a block's bias stay until the one after the next is filled.
  bool fill(RowBlock& block) {
    block.count = static_cast<int>(std::min<std::int64_t>(kBlockRows, left_));
    if (block.count == 0) return false;
    left_ -= block.count;
    std::array<float, kBlockRows>& values = values_[turn_ ^= 1];
    block.bias = bias_.mask == nullptr ? nullptr : values.data();
    block.positions.fill(0);
    for (int filled = 0; filled < block.count;) {
      const RowRun& run = runs_[run_];
      const auto count = static_cast<int>(std::min<std::int64_t>(block.count - filled, run.count - taken_));
      const std::int64_t first = run.begin + taken_;
      for (int i = 0; i < count; ++i) {
        const auto slot = static_cast<std::size_t>(filled + i);
        block.rows[slot] = base_ + (first + i) * layout_.row_bytes;
        if (block.bias != nullptr) values[slot] = f16_to_f32(bias_.mask[first + i - bias_.first_row]);
      }
      filled += count;
      taken_ += count;
      if (taken_ < run.count) continue;
      ++run_;
      taken_ = 0;
    }
    return true;
  }

 private:
  const RowLayout& layout_;
  const std::byte* base_;
  const RowBias& bias_;
  const std::vector<RowRun>& runs_;
  std::int64_t left_;       // rows
  std::size_t run_ = 0;     // the next row's
  std::int64_t taken_ = 0;  // of its rows
  std::array<std::array<float, kBlockRows>, 2> values_;
  std::size_t turn_ = 0;
};

}  // namespace

void listed_attention(const Kernels& kernels, const RowLayout& layout, const std::byte* base, const RowRuns& rows,
                      RowRange range, const RowBias& bias, const QueryBlock& queries, const LogitRule& logits,
                      AttentionScratch& scratch, PartialAttention result) {
  assert(queries.num_queries == 1 && logits.sliding_window == 0 && logits.alibi == nullptr);
  const std::int64_t everywhere = std::numeric_limits<std::int64_t>::max();
  const QueryBlock seeing{queries.q, &everywhere, 1, queries.group_size};
  AttentionPass pass(kernels, layout, seeing, logits, nullptr, scratch);
  ListedBlocks blocks(layout, base, rows, range, bias);
  pass.add_all([&](RowBlock& block) { return blocks.fill(block); });
  pass.finish(result);
}

}  // namespace tandem::cpu
