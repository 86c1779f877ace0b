#include "cpu/listed_attention.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <limits>
#include <utility>
#include <vector>

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

/// What a head's pass fetches of the next block while it works on this one.
struct Fetching {
  UpcomingRows with_keys, with_values;
};

/// Of the index-th head: its share of whole rows where all heads are attended and lie side by side, else its own part
/// of all rows.
Fetching fetching(const EngineHeads& engine, const RowBlock& next, const std::byte* const* own_rows, int index) {
  const RowLayout& layout = engine.layout;
  const std::int64_t key = bytes_of(layout.dtype, layout.dim_k), value = layout.kv_bytes - key;
  const auto count = static_cast<int>(engine.heads.size());
  if (count != engine.in_a_row || engine.head_bytes != key || key != value)
    return {{own_rows, next.count, key}, {own_rows, next.count, value, layout.v_offset}};
  const int first = next.count * index / count, last = next.count * (index + 1) / count;
  const std::byte* const* rows = next.rows.data() + first;
  return {{rows, last - first, count * key}, {rows, last - first, count * value, layout.v_offset}};
}

/// rows[i] = those of `block`, `offset` bytes further on.
void move_rows(const RowBlock& block, std::int64_t offset, const std::byte** rows) {
  for (int r = 0; r < block.count; ++r) rows[r] = block.rows[static_cast<std::size_t>(r)] + offset;
}

constexpr std::int64_t kEverywhere = std::numeric_limits<std::int64_t>::max();  // the list says what is seen

/// A pass for each head.
void start_passes(const Kernels& kernels, const EngineHeads& engine, const float* bias_factors, const float* queries,
                  int group_size, float softcap, ListedScratch& scratch) {
  const std::size_t count = engine.heads.size();
  scratch.passes.clear();  // of a call that threw
  scratch.passes.reserve(count);
  if (scratch.heads.size() < count) scratch.heads.resize(count);
  scratch.rules.assign(count, {});
  scratch.queries.assign(count, {});
  for (std::size_t i = 0; i < count; ++i) {
    if (bias_factors != nullptr) scratch.rules[i].bias_factors = bias_factors + engine.heads[i] * group_size;
    scratch.rules[i].softcap = softcap;
    const auto vector = static_cast<std::ptrdiff_t>(i) * group_size;
    scratch.queries[i] = {queries + vector * engine.layout.padded_k, &kEverywhere, 1, group_size};
    scratch.passes.emplace_back(kernels, engine.layout, scratch.queries[i], scratch.rules[i], nullptr,
                                scratch.heads[i]);
  }
}

}  // namespace

void listed_attention(const Kernels& kernels, const EngineHeads& engine, const RowRuns& rows, RowRange range,
                      const RowBias& bias, const float* bias_factors, const float* queries, int group_size,
                      float softcap, ListedScratch& scratch, PartialAttention result) {
  const std::size_t count = engine.heads.size();
  assert(result.rows == static_cast<std::int64_t>(count) * group_size);
  start_passes(kernels, engine, bias_factors, queries, group_size, softcap, scratch);
  std::vector<AttentionPass>& passes = scratch.passes;
  ListedBlocks blocks(engine.layout, engine.base, rows, range, bias);
  RowBlock pair[2];
  RowBlock *present = &pair[0], *next = &pair[1];
  std::array<const std::byte*, kBlockRows> upcoming;
  for (bool more = blocks.fill(*present); more; std::swap(present, next)) {
    more = blocks.fill(*next);
    std::int64_t moved = 0;  // bytes from head 0 to the one that the block's rows are of
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t offset = engine.heads[i] * engine.head_bytes;
      move_rows(*present, offset - moved, present->rows.data());
      moved = offset;
      Fetching fetch;
      if (more) {
        move_rows(*next, offset, upcoming.data());
        fetch = fetching(engine, *next, upcoming.data(), static_cast<int>(i));
      }
      passes[i].add(*present, fetch.with_keys, fetch.with_values);
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    const auto vector = static_cast<std::int64_t>(i) * group_size;
    passes[i].finish({result.out + vector * result.dim, result.lse + vector, group_size, result.dim});
  }
  passes.clear();  // they point to what is the caller's
}

}  // namespace tandem::cpu
