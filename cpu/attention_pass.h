#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "cpu/aligned_vector.h"
#include "cpu/codec/block_format.h"
#include "cpu/kernels.h"
#include "cpu/logit_rule.h"
#include "runtime/base/partial.h"

namespace tandem::cpu {

/// Rows [begin, end) of a store, or of a list of rows.
struct RowRange {
  std::int64_t begin = 0;
  std::int64_t end = std::numeric_limits<std::int64_t>::max();
};

/// Memory that attention passes of one worker share; grows to the largest shape seen and then stays.
struct AttentionScratch {
  AlignedVector<float> decoded, prepared, scores, log_weights, max, sum, acc, spread_weight, spread_value;
  AlignedVector<double> spread_square;
};

/// What sampling leaves uncertain, per query vector, with b = (1 - pi) a^2 and a = w / pi in units of the denominator
/// sum(a), for rows that were drawn independently with probability pi.
///
/// `weight` is the estimated variance of lse; the squared error of `out` around any vector r is estimated as
/// square - 2 <r, value> + |r|^2 weight (about `out` itself: its own variance by Horvitz-Thompson). All zero where
/// nothing was sampled; finite while |v| is below kMaxMagnitude. Members that are nullptr are not written.
struct SampleSpread {
  float* weight = nullptr;  ///< (num_vectors): sum of b
  float* value = nullptr;   ///< (num_vectors, dim_v): sum of b v
  float* square = nullptr;  ///< (num_vectors): sum of b |v|^2, at most the largest |v|^2 of the rows
};

/// Weights of sampled rows: a row that head h found with probability u enters h's sum with weight 1 / u.
///
/// u is that of CollisionWeight for the angle between q and the centred key: cos = (<q, k> - <q, mean>) / (|q| |k -
/// mean|).
struct CollisionRule {
  CollisionWeight weight;
  const float* inverse_norms = nullptr;        ///< 1 / |k - mean| by store row; 0 for a key equal to the mean
  const float* query_offsets = nullptr;        ///< scale * <q, mean> per head of the group
  const float* inverse_query_norms = nullptr;  ///< 1 / (scale * |q|) per head of the group; 0 for a zero query
};

/// Up to kBlockRows rows with what decides who may use them.
struct RowBlock {
  std::array<const std::byte*, kBlockRows> rows;
  std::array<std::int64_t, kBlockRows> positions;           ///< of the tokens, ascending
  std::array<std::uint64_t, kBlockRows> head_mask;          ///< bit h: head h of the group uses the row; see has_mask
  alignas(64) std::array<float, kBlockRows> inverse_norms;  ///< for a CollisionRule
  alignas(64) std::array<float, kBlockRows> inclusion;      ///< in (0, 1]: weight 1 / inclusion; see has_inclusion
  int count = 0;
  bool has_mask = false;
  bool has_inclusion = false;  ///< never together with a CollisionRule
  /// Optional (num_queries, kBlockRows): what is added to the logits of a query, times LogitRule::bias_factors; -inf
  /// hides the row. Entries beyond `count` are not read.
  const float* bias = nullptr;
};

/// Attention of one QueryBlock over any sequence of row blocks, or of coded blocks, of one KV head, block by block.
///
/// Each row is read once for all query heads of the group. Blocks must hold disjoint keys. The result depends on the
/// order of the blocks only by rounding. Source of the online softmax: Milakov & Gimelshein, arXiv:1805.02867.
class AttentionPass {
 public:
  /// `rule` may be nullptr (a row's weight is 1, or what its block says). All arguments must outlive the pass; one pass
  /// per scratch at a time.
  AttentionPass(const Kernels& kernels, const RowLayout& layout, const QueryBlock& queries, const LogitRule& logits,
                const CollisionRule* rule, AttentionScratch& scratch);
  /// A pass over coded blocks of one format: all of the head's, which is what `format` was made for.
  AttentionPass(const Kernels& kernels, const BlockFormat& format, const QueryBlock& queries, const LogitRule& logits,
                AttentionScratch& scratch);

  /// Attends over `block`, while the rows of `next` (which may be nullptr) are fetched from memory.
  void add(const RowBlock& block, const RowBlock* next = nullptr) noexcept;
  /// The same for callers who know better what is read next: while keys are read, and while values are.
  void add(const RowBlock& block, const UpcomingRows& with_keys, const UpcomingRows& with_values) noexcept;
  /// Adds the blocks that fill(RowBlock&) makes until it returns false; one is fetched while another is computed.
  template <typename Fill>
  void add_all(Fill&& fill) {
    RowBlock blocks[2];
    RowBlock* present = &blocks[0];
    RowBlock* next = &blocks[1];
    bool more = fill(*present);
    if (more) ask_for(*present);
    for (; more; std::swap(present, next)) {
      more = fill(*next);
      add(*present, more ? next : nullptr);
    }
  }
  /// Attends over rows of a coded block; the token of row r is at rows.first_position + r.
  void add_coded(const CodedRows& rows) noexcept;
  /// Attends over rows [first, end) of blocks that lie back to back; one is fetched while another is computed.
  void add_coded_run(const std::byte* blocks, std::int64_t first, std::int64_t end,
                     std::int64_t first_position) noexcept;
  /// mass[r] += sum over the vectors of e^(score - lse[v]), the attention that row r of `block` gets from queries whose
  /// log-sum-exp is `lse` (num_vectors); -inf: the query saw nothing. Leaves the pass as it was.
  void add_mass(const RowBlock& block, const float* lse, float* mass) noexcept;
  /// Writes out (num_vectors, dim_v) and lse; vectors that saw no key are empty. Writes what `spread` asks for.
  void finish(PartialAttention result, SampleSpread spread = {}) const noexcept;

 private:
  void start(int padded_k, int padded_v);
  void score(const RowPointers& keys) noexcept;
  /// Of a row whose K and V lie apart.
  [[nodiscard]] std::int64_t key_bytes() const noexcept;
  /// Between scores and softmax: cap, biases, and which rows are hidden.
  void apply_rule(const RowBlock& block, RowLogWeights weights) noexcept;
  /// Asks memory for all rows of a block: of the first, which nothing computes in front of.
  void ask_for(const RowBlock& block) const noexcept;
  /// -ln pi of the block's rows, which the plain scores may decide; starts the spread with the first block that has
  /// any.
  RowLogWeights log_weights_of(const RowBlock& block) noexcept;
  void add_log_weights(RowLogWeights weights) noexcept;
  void apply_alibi(const RowBlock& block) noexcept;
  void apply_bias(const RowBlock& block) noexcept;
  void hide(const RowBlock& block) noexcept;

  const Kernels& kernels_;
  const RowLayout* layout_ = nullptr;    ///< of a pass over rows
  const BlockFormat* format_ = nullptr;  ///< of one over coded blocks
  const float* prepared_ = nullptr;      ///< what its scores take in place of queries
  int padded_v_ = 0;
  const QueryBlock& queries_;
  const LogitRule& logits_;
  const CollisionRule* rule_;
  AttentionScratch& scratch_;
  bool has_spread_ = false;
};

}  // namespace tandem::cpu
