#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/aligned_vector.h"
#include "cpu/codec/simhash.h"
#include "cpu/key_coding.h"
#include "cpu/selection.h"
#include "lsh/collision_marks.h"
#include "lsh/select_request.h"
#include "lsh/table_segment.h"
#include "numa/memory_ledger.h"

namespace tandem::lsh {

/// SimHash tables as in MagicPIG (arXiv:2410.16179, section 4): a key is sampled when it shares the query's bucket in
/// at least `min_collisions` of `num_tables` tables, and weighted by one over the probability of that.
struct LshParams {
  int bits_per_table = 10;  ///< K: sign bits per code, 1 to 12; buckets per table = 2^K
  int num_tables = 150;     ///< L: 1 to 300
  int min_collisions = 2;   ///< 1 or 2, not above num_tables
  std::uint64_t seed = 1;   ///< projections are a pure function of (seed, head_dim, K, L, planes, shared_bits)
  cpu::HashPlanes planes = cpu::HashPlanes::hadamard;
  int shared_bits = 1024;  ///< hadamard: bits that the tables sample from; a multiple of 64, 128 to 2048

  friend bool operator==(const LshParams&, const LshParams&) = default;
};
void validate(const LshParams& params);  ///< throws Error(invalid_argument) naming the field and the value
cpu::SimHashParams hash_params(const LshParams& params) noexcept;

struct TablesScratch {
  cpu::AlignedVector<float> centred;                      // (kCodeBlock, padded_k)
  cpu::HashScratch hash;                                  // of a block
  std::vector<std::uint16_t> block_codes;                 // (num_tables, kCodeBlock) of new rows or of queries
  std::vector<std::byte*> blocks;                         // of rows that a coder hashes
  std::vector<std::uint16_t> query_codes;                 // (group_size, num_tables)
  CollisionMarks marks;                                   // of one segment
  std::vector<float> query_offsets, inverse_query_norms;  // (group_size), read by Selection::weights
};

/// The tables of one (sequence, layer, kv_head).
///
/// Rows lie in segments of up to TableSegment::kMaxRows, immutable and shared by forks; the latest rows wait as plain
/// codes that a query compares one by one, until there are enough of them to sort the last segment anew. Keys are
/// centred by the mean of the rows of the first extend(), which stays fixed. Not thread-safe.
class LshTables {
 public:
  /// `ledger` must outlive the tables, and so must `coder`, which is asked to hash many rows; null or empty: nobody is.
  LshTables(const LshParams& params, std::shared_ptr<const cpu::SimHash> hash, numa::MemoryLedger& ledger,
            const cpu::KeyCoder* coder = nullptr);

  /// The state after indexing some rows, on the side until commit().
  class Extension {
    friend class LshTables;
    std::vector<float> mean;
    std::vector<TableSegment::Ref> segments;
    CodeBlocks tail;
    int tail_rows = 0;
    std::vector<float> all_norms;  // those of the rows before, with room for the added ones; unused if there is room
    std::vector<float> added_norms;
    numa::Reservation reservation;
  };
  /// Indexes rows [size(), store.size()) without a change. Throws Error(out_of_memory), or what the coder throws.
  [[nodiscard]] Extension prepare(const cpu::Kernels& kernels, const cpu::KvStore& store, TablesScratch& scratch) const;
  void commit(Extension&& extension) noexcept;
  /// Both at once. Throws as prepare(), and then nothing changed.
  void extend(const cpu::Kernels& kernels, const cpu::KvStore& store, TablesScratch& scratch) {
    commit(prepare(kernels, store, scratch));
  }
  /// Tables of the first min(size, size()) rows; at most one segment is copied. Throws Error(out_of_memory).
  [[nodiscard]] LshTables fork(std::int64_t size) const;

  /// Rows of [request.begin, request.end) per head of the group that reached min_collisions, and the rule of weights.
  void select(const SelectRequest& request, TablesScratch& scratch, cpu::Selection& selection) const;

  [[nodiscard]] std::int64_t size() const noexcept { return static_cast<std::int64_t>(inverse_norms_.size()); }
  /// Of ids, offsets, codes, norms and the mean, with the slack kept for insertion.
  [[nodiscard]] std::int64_t bytes() const noexcept;
  [[nodiscard]] const std::vector<float>& mean() const noexcept { return mean_; }
  /// Centres later keys by `mean` (padded_k values) instead of the first rows' own; only before the first extend().
  void fix_mean(std::vector<float> mean) { mean_ = std::move(mean); }

 private:
  [[nodiscard]] TableShape shape() const noexcept { return {params_.bits_per_table, params_.num_tables}; }
  /// Hashes `count` rows from `first`, all of one block of the tail, onto the end of `next`.
  void hash_rows(const cpu::Kernels& kernels, const cpu::KvStore& store, std::int64_t first, int count,
                 TablesScratch& scratch, Extension& next) const;
  /// Has the coder hash `count` rows from `first`, whole blocks of the tail but for the last one, onto the end of
  /// `next`. False, and nothing was done, where it does not.
  bool hand_over(const cpu::Kernels& kernels, const cpu::KvStore& store, std::int64_t first, std::int64_t count,
                 TablesScratch& scratch, Extension& next) const;
  /// Sorts the tail of `next` into its last segment, or into a new one.
  void merge_tail(Extension& next) const;
  /// Hashes the queries and prepares the rule of weights.
  void hash_queries(const SelectRequest& request, TablesScratch& scratch) const;
  /// Marks rows of the tail like TableSegment::mark.
  std::int64_t mark_tail(const cpu::Kernels& kernels, int heads, TablesScratch& scratch) const;

  LshParams params_;
  std::shared_ptr<const cpu::SimHash> hash_;
  numa::MemoryLedger* ledger_;
  const cpu::KeyCoder* coder_;
  std::vector<float> mean_;                  // (padded_k), empty before the first rows
  std::vector<TableSegment::Ref> segments_;  // all but the last one are full
  CodeBlocks tail_;                          // codes of the rows behind them
  int tail_rows_ = 0;
  std::vector<float> inverse_norms_;  // 1 / |k - mean| of every row; 0 when k is the mean
  numa::Reservation reservation_;     // of the mean and the norms
};

}  // namespace tandem::lsh
