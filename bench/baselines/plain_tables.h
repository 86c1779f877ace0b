#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/codec/simhash.h"
#include "cpu/selection.h"
#include "lsh/select_request.h"

namespace tandem::bench {

/// SimHash tables in the layout of first light, the baseline of lsh::LshTables: ids of four bytes, counting-sorted from
/// codes row by row, later rows as a tail of plain codes; one head of a group after the other, a counter byte per row.
/// Finds the same rows for the same hash and mean. Not thread-safe.
class PlainTables {
 public:
  PlainTables(std::shared_ptr<const cpu::SimHash> hash, int min_collisions)
      : hash_(std::move(hash)), min_collisions_(min_collisions) {}

  /// Indexes all rows of `store`, centred by `mean` (padded_k); those from `sorted_rows` on stay in the tail.
  void build(const cpu::Kernels& kernels, const cpu::KvStore& store, const std::vector<float>& mean,
             std::int64_t sorted_rows);
  /// Rows of [request.begin, request.end) per head that reached min_collisions; without weights.
  void select(const lsh::SelectRequest& request, cpu::Selection& selection);
  [[nodiscard]] std::int64_t bytes() const noexcept;

 private:
  void sort(const std::vector<std::uint16_t>& codes);
  void encode(const cpu::Kernels& kernels, const float* vectors, std::int64_t count, std::uint16_t* codes);
  void count_collisions(const std::uint16_t* query_codes, std::uint64_t head_bit);

  std::shared_ptr<const cpu::SimHash> hash_;
  int min_collisions_;
  std::int64_t sorted_rows_ = 0;
  std::vector<std::uint32_t> offsets_;     // (num_tables, buckets + 1)
  std::vector<std::uint32_t> ids_;         // (num_tables, sorted_rows), ascending within a bucket
  std::vector<std::uint16_t> tail_codes_;  // (tail, num_tables)
  std::vector<float> inverse_norms_;
  // scratch
  cpu::HashScratch hash_scratch_;
  cpu::AlignedVector<float> centred_;
  std::vector<std::uint16_t> blocks_, query_codes_;
  std::vector<std::uint8_t> collisions_;
  std::vector<std::uint64_t> masks_;
};

}  // namespace tandem::bench
