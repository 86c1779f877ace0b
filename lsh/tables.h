#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/aligned_vector.h"
#include "cpu/codec/simhash.h"
#include "cpu/selection.h"
#include "lsh/select_request.h"
#include "numa/memory_ledger.h"

namespace tandem::lsh {

/// SimHash tables as in MagicPIG (arXiv:2410.16179, section 4): a key is sampled when it shares the query's bucket in
/// at least `min_collisions` of `num_tables` tables, and weighted by one over the probability of that.
struct LshParams {
  int bits_per_table = 10;  ///< K: sign bits per code, 1 to 12; buckets per table = 2^K
  int num_tables = 150;     ///< L: 1 to 300
  int min_collisions = 2;   ///< 1 or 2, not above num_tables
  std::uint64_t seed = 1;   ///< projections are a pure function of (seed, head_dim, K, L)

  friend bool operator==(const LshParams&, const LshParams&) = default;
};
void validate(const LshParams& params);  ///< throws Error(invalid_argument) naming the field and the value

struct TablesScratch {
  cpu::AlignedVector<float> centred;                      // (chunk, padded_k)
  cpu::AlignedVector<std::uint64_t> bits;                 // sign bits of a chunk
  std::vector<std::uint16_t> codes;                       // of new rows, or of the queries
  std::vector<std::uint8_t> collisions;                   // (rows)
  std::vector<std::uint64_t> masks;                       // (rows)
  std::vector<float> query_offsets, inverse_query_norms;  // (group_size), read by Selection::weights
};

/// The tables of one (sequence, layer, kv_head).
///
/// Rows up to base_rows lie in counting-sorted buckets (immutable, shared by forks); later rows wait as plain codes
/// that a query compares one by one, until there are enough of them to sort the tables anew. Keys are centred by the
/// mean of the rows of the first extend(), which stays fixed. Not thread-safe.
class LshTables {
  struct Buckets;

 public:
  /// `ledger` must outlive the tables.
  LshTables(const LshParams& params, std::shared_ptr<const cpu::SimHash> hash, numa::MemoryLedger& ledger);

  /// The state after indexing some rows, on the side until commit().
  class Extension {
    friend class LshTables;
    std::vector<float> mean;
    std::shared_ptr<const Buckets> base;
    std::vector<std::uint16_t> tail_codes;
    std::vector<float> inverse_norms;
    numa::Reservation reservation;
  };
  /// Indexes rows [size(), store.size()) without a change. Throws Error(out_of_memory).
  [[nodiscard]] Extension prepare(const cpu::Kernels& kernels, const cpu::KvStore& store, TablesScratch& scratch) const;
  void commit(Extension&& extension) noexcept;
  /// Both at once. Throws Error(out_of_memory), and then nothing changed.
  void extend(const cpu::Kernels& kernels, const cpu::KvStore& store, TablesScratch& scratch) {
    commit(prepare(kernels, store, scratch));
  }
  /// Tables of the first min(size, size()) rows; whole buckets are shared. Throws Error(out_of_memory).
  [[nodiscard]] LshTables fork(std::int64_t size) const;

  /// Rows of [request.begin, request.end) per head of the group that reached min_collisions, and the rule of weights.
  void select(const SelectRequest& request, TablesScratch& scratch, cpu::Selection& selection) const;

  [[nodiscard]] std::int64_t size() const noexcept { return static_cast<std::int64_t>(inverse_norms_.size()); }
  [[nodiscard]] std::int64_t bytes() const noexcept;
  [[nodiscard]] const std::vector<float>& mean() const noexcept { return mean_; }
  /// Centres later keys by `mean` (padded_k values) instead of the first rows' own; only before the first extend().
  void fix_mean(std::vector<float> mean) { mean_ = std::move(mean); }

 private:
  struct Buckets {
    numa::Reservation reservation;
    std::int64_t rows = 0;
    std::vector<std::uint32_t> offsets;  // (num_tables, buckets + 1), relative to the table's ids
    std::vector<std::uint32_t> ids;      // (num_tables, rows), ascending within a bucket
  };
  [[nodiscard]] std::int64_t base_rows() const noexcept { return base_ ? base_->rows : 0; }
  [[nodiscard]] std::shared_ptr<const Buckets> sorted(const std::vector<std::uint16_t>& tail_codes) const;
  [[nodiscard]] std::shared_ptr<const Buckets> cut(std::int64_t rows) const;
  [[nodiscard]] std::shared_ptr<Buckets> allocate(std::int64_t rows) const;
  /// Marks the rows that one head found; returns the bytes of ids and codes that it read.
  std::int64_t count_collisions(const std::uint16_t* query_codes, std::uint64_t head_bit, TablesScratch& scratch) const;
  /// Bytes of the three vectors below.
  [[nodiscard]] std::int64_t small_bytes(std::int64_t rows, std::int64_t tail_rows, std::size_t dim) const noexcept;

  LshParams params_;
  std::shared_ptr<const cpu::SimHash> hash_;
  numa::MemoryLedger* ledger_;
  std::vector<float> mean_;                // (padded_k), empty before the first rows
  std::shared_ptr<const Buckets> base_;    // rows [0, base_rows)
  std::vector<std::uint16_t> tail_codes_;  // rows [base_rows, size), (tail, num_tables)
  std::vector<float> inverse_norms_;       // 1 / |k - mean| of every row; 0 when k is the mean
  numa::Reservation reservation_;          // of the three vectors
};

}  // namespace tandem::lsh
