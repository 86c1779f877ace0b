#include "lsh/tables.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/base/error.h"

namespace tandem::lsh {
namespace {

constexpr std::int64_t kChunkRows = 256;  // rows that are decoded, centred and hashed together
// Unsorted rows cost a query a comparison per table each, sorting costs a pass over all ids: sort when the tail exceeds
// both a fixed size and a share of the base, so that the work per row stays constant as the store grows.
constexpr std::int64_t kSmallestSort = 256;
constexpr std::int64_t kTailShare = 32;

std::size_t product(std::int64_t a, std::int64_t b) noexcept { return static_cast<std::size_t>(a * b); }

std::vector<float> mean_key(const cpu::KvStore& store) {
  const cpu::RowLayout& layout = store.layout();
  std::vector<double> sum(static_cast<std::size_t>(layout.padded_k), 0.0);
  std::vector<float> key(static_cast<std::size_t>(layout.padded_k));
  for (std::int64_t r = 0; r < store.size(); ++r) {
    cpu::load_key(layout, store.row(r), key.data());
    for (std::size_t d = 0; d < key.size(); ++d) sum[d] += key[d];
  }
  std::transform(sum.begin(), sum.end(), key.begin(),
                 [n = static_cast<double>(store.size())](double s) { return static_cast<float>(s / n); });
  return key;
}

/// Decodes and centres rows [begin, begin + count); writes 1 / norm of each.
void centre(const cpu::KvStore& store, const std::vector<float>& mean, std::int64_t begin, std::int64_t count,
            float* centred, float* inverse_norms) {
  const auto dim = static_cast<std::int64_t>(mean.size());
  for (std::int64_t r = 0; r < count; ++r) {
    float* key = centred + r * dim;
    cpu::load_key(store.layout(), store.row(begin + r), key);
    double square = 0;
    for (std::int64_t d = 0; d < dim; ++d) {
      key[d] -= mean[static_cast<std::size_t>(d)];
      square += static_cast<double>(key[d]) * key[d];
    }
    inverse_norms[r] = square > 0 ? static_cast<float>(1.0 / std::sqrt(square)) : 0.f;
  }
}

}  // namespace

void validate(const LshParams& params) {
  TANDEM_CHECK(params.bits_per_table >= 1 && params.bits_per_table <= cpu::kMaxBitsPerTable, invalid_argument,
               "lsh_bits (K) is ", params.bits_per_table, "; allowed: 1 to ", cpu::kMaxBitsPerTable);
  TANDEM_CHECK(params.num_tables >= 1 && params.num_tables <= cpu::kMaxTables, invalid_argument, "lsh_tables (L) is ",
               params.num_tables, "; allowed: 1 to ", cpu::kMaxTables);
  TANDEM_CHECK(params.min_collisions >= 1 && params.min_collisions <= 2 && params.min_collisions <= params.num_tables,
               invalid_argument, "lsh_min_collisions is ", params.min_collisions,
               "; allowed: 1 or 2, not above lsh_tables (", params.num_tables, ")");
}

LshTables::LshTables(const LshParams& params, std::shared_ptr<const cpu::SimHash> hash, numa::MemoryLedger& ledger)
    : params_(params), hash_(std::move(hash)), ledger_(&ledger) {}

std::shared_ptr<LshTables::Buckets> LshTables::allocate(std::int64_t rows) const {
  auto buckets = std::make_shared<Buckets>();
  const std::int64_t offsets = std::int64_t{params_.num_tables} * ((1 << params_.bits_per_table) + 1);
  const std::int64_t ids = rows * params_.num_tables;
  buckets->reservation = ledger_->reserve((offsets + ids) * 4, "SimHash tables");
  buckets->rows = rows;
  buckets->offsets.assign(static_cast<std::size_t>(offsets), 0);
  buckets->ids.resize(static_cast<std::size_t>(ids));
  return buckets;
}

std::shared_ptr<const LshTables::Buckets> LshTables::sorted(const std::vector<std::uint16_t>& tail_codes) const {
  const std::int64_t tables = params_.num_tables;
  const std::int64_t buckets = std::int64_t{1} << params_.bits_per_table;
  const std::int64_t old_rows = base_rows();
  const std::int64_t tail = static_cast<std::int64_t>(tail_codes.size()) / tables;
  auto result = allocate(old_rows + tail);
  std::vector<std::uint32_t> cursor(static_cast<std::size_t>(buckets));
  for (std::int64_t t = 0; t < tables; ++t) {
    std::uint32_t* offsets = result->offsets.data() + t * (buckets + 1);
    std::uint32_t* ids = result->ids.data() + t * result->rows;
    const std::uint32_t* old_offsets = base_ ? base_->offsets.data() + t * (buckets + 1) : nullptr;
    for (std::int64_t r = 0; r < tail; ++r) ++offsets[tail_codes[product(r, tables) + static_cast<std::size_t>(t)] + 1];
    for (std::int64_t b = 0; b < buckets; ++b) {
      const std::uint32_t old_count = old_offsets == nullptr ? 0 : old_offsets[b + 1] - old_offsets[b];
      if (old_count > 0) std::copy_n(base_->ids.data() + t * old_rows + old_offsets[b], old_count, ids + offsets[b]);
      cursor[static_cast<std::size_t>(b)] = offsets[b] + old_count;
      offsets[b + 1] += offsets[b] + old_count;
    }
    for (std::int64_t r = 0; r < tail; ++r) {
      ids[cursor[tail_codes[product(r, tables) + static_cast<std::size_t>(t)]]++] =
          static_cast<std::uint32_t>(old_rows + r);
    }
  }
  return result;
}

std::shared_ptr<const LshTables::Buckets> LshTables::cut(std::int64_t rows) const {
  const std::int64_t buckets = std::int64_t{1} << params_.bits_per_table;
  auto result = allocate(rows);
  for (std::int64_t t = 0; t < params_.num_tables; ++t) {
    const std::uint32_t* old_offsets = base_->offsets.data() + t * (buckets + 1);
    const std::uint32_t* old_ids = base_->ids.data() + t * base_->rows;
    std::uint32_t* offsets = result->offsets.data() + t * (buckets + 1);
    std::uint32_t* ids = result->ids.data() + t * rows;
    for (std::int64_t b = 0; b < buckets; ++b) {
      const auto end =
          std::lower_bound(old_ids + old_offsets[b], old_ids + old_offsets[b + 1], static_cast<std::uint32_t>(rows));
      offsets[b + 1] = static_cast<std::uint32_t>(std::copy(old_ids + old_offsets[b], end, ids + offsets[b]) - ids);
    }
  }
  return result;
}

std::int64_t LshTables::small_bytes(std::int64_t rows, std::int64_t tail_rows, std::size_t dim) const noexcept {
  return rows * 4 + tail_rows * params_.num_tables * 2 + static_cast<std::int64_t>(dim) * 4;
}

LshTables::Extension LshTables::prepare(const cpu::Kernels& kernels, const cpu::KvStore& store,
                                        TablesScratch& scratch) const {
  const std::int64_t first = size();
  const std::int64_t added = std::max<std::int64_t>(0, store.size() - first);
  const std::int64_t tables = params_.num_tables;
  const std::int64_t tail = first - base_rows() + added;
  const bool sort = tail >= std::max(kSmallestSort, base_rows() / kTailShare);
  Extension next;
  next.mean = mean_.empty() && added > 0 ? mean_key(store) : mean_;
  next.reservation = ledger_->reserve(small_bytes(first + added, tail, next.mean.size()), "SimHash codes and norms");
  next.inverse_norms.reserve(static_cast<std::size_t>(first + added));
  next.inverse_norms = inverse_norms_;
  next.inverse_norms.resize(static_cast<std::size_t>(first + added));
  next.tail_codes.reserve(product(tail, tables));
  next.tail_codes = tail_codes_;
  next.tail_codes.resize(product(tail, tables));
  scratch.centred.resize(product(std::min(added, kChunkRows), static_cast<std::int64_t>(next.mean.size())));
  for (std::int64_t done = 0; done < added; done += kChunkRows) {
    const std::int64_t count = std::min(kChunkRows, added - done);
    centre(store, next.mean, first + done, count, scratch.centred.data(), next.inverse_norms.data() + first + done);
    hash_->encode(kernels, scratch.centred.data(), count,
                  next.tail_codes.data() + tail_codes_.size() + product(done, tables), scratch.bits);
  }
  next.base = sort ? sorted(next.tail_codes) : base_;
  if (sort) {  // the codes are in the buckets now
    next.tail_codes = {};
    next.reservation = ledger_->reserve(small_bytes(first + added, 0, next.mean.size()), "SimHash norms");
  }
  return next;
}

void LshTables::commit(Extension&& extension) noexcept {
  mean_ = std::move(extension.mean);
  base_ = std::move(extension.base);
  tail_codes_ = std::move(extension.tail_codes);
  inverse_norms_ = std::move(extension.inverse_norms);
  reservation_ = std::move(extension.reservation);
}

LshTables LshTables::fork(std::int64_t size) const {
  LshTables copy(params_, hash_, *ledger_);
  size = std::min(size, this->size());
  if (size == 0) return copy;  // the next rows are a first build again, with a mean of their own
  copy.mean_ = mean_;
  const std::int64_t base = std::min(size, base_rows());
  copy.reservation_ = ledger_->reserve(small_bytes(size, size - base, mean_.size()), "SimHash codes and norms");
  copy.base_ = base == base_rows() ? base_ : cut(base);
  copy.tail_codes_.assign(tail_codes_.begin(),
                          tail_codes_.begin() + static_cast<std::ptrdiff_t>(product(size - base, params_.num_tables)));
  copy.inverse_norms_.assign(inverse_norms_.begin(), inverse_norms_.begin() + size);
  return copy;
}

std::int64_t LshTables::count_collisions(const std::uint16_t* query_codes, std::uint64_t head_bit,
                                         TablesScratch& scratch) const {
  std::int64_t ids_read = 0;
  const std::int64_t buckets = std::int64_t{1} << params_.bits_per_table;
  const auto needed = static_cast<std::uint8_t>(params_.min_collisions);
  std::fill(scratch.collisions.begin(), scratch.collisions.begin() + base_rows(), std::uint8_t{0});
  for (std::int64_t t = 0; base_ && t < params_.num_tables; ++t) {
    const std::uint32_t* offsets = base_->offsets.data() + t * (buckets + 1) + query_codes[t];
    const std::uint32_t* ids = base_->ids.data() + t * base_->rows;
    ids_read += offsets[1] - offsets[0];
    for (std::uint32_t i = offsets[0]; i < offsets[1]; ++i) {
      std::uint8_t& count = scratch.collisions[ids[i]];
      if (count >= needed) continue;  // stops counting there, so 300 tables cannot overflow a byte
      if (++count == needed) scratch.masks[ids[i]] |= head_bit;
    }
  }
  const std::int64_t tail = size() - base_rows();
  for (std::int64_t r = 0; r < tail; ++r) {
    const std::uint16_t* codes = tail_codes_.data() + r * params_.num_tables;
    int count = 0;
    for (int t = 0; t < params_.num_tables; ++t) count += codes[t] == query_codes[t] ? 1 : 0;
    if (count >= needed) scratch.masks[static_cast<std::size_t>(base_rows() + r)] |= head_bit;
  }
  return ids_read * 4 + static_cast<std::int64_t>(tail_codes_.size()) * 2;
}

void LshTables::select(const SelectRequest& request, TablesScratch& scratch, cpu::Selection& selection) const {
  selection.clear();
  if (request.end <= request.begin) return;
  const int group = request.queries.group_size;
  const auto dim = static_cast<std::int64_t>(mean_.size());
  scratch.codes.resize(product(group, params_.num_tables));
  hash_->encode(request.kernels, request.queries.q, group, scratch.codes.data(), scratch.bits);
  scratch.collisions.resize(static_cast<std::size_t>(base_rows()));
  scratch.masks.assign(static_cast<std::size_t>(size()), 0);
  scratch.query_offsets.resize(static_cast<std::size_t>(group));
  scratch.inverse_query_norms.resize(static_cast<std::size_t>(group));
  for (int h = 0; h < group; ++h) {
    const float* q = request.queries.q + h * dim;
    double square = 0;
    double offset = 0;
    for (std::int64_t d = 0; d < dim; ++d) {
      square += static_cast<double>(q[d]) * q[d];
      offset += static_cast<double>(q[d]) * mean_[static_cast<std::size_t>(d)];
    }
    scratch.query_offsets[static_cast<std::size_t>(h)] = static_cast<float>(offset);
    scratch.inverse_query_norms[static_cast<std::size_t>(h)] =
        square > 0 ? static_cast<float>(1.0 / std::sqrt(square)) : 0.f;
    selection.bytes_read +=
        count_collisions(scratch.codes.data() + std::ptrdiff_t{h} * params_.num_tables, std::uint64_t{1} << h, scratch);
  }
  for (std::int64_t r = request.begin; r < request.end; ++r) {
    const std::uint64_t mask = scratch.masks[static_cast<std::size_t>(r)];
    if (mask == 0) continue;
    selection.rows.push_back(static_cast<std::uint32_t>(r));
    selection.head_mask.push_back(mask);
  }
  selection.weights =
      cpu::CollisionRule{cpu::collision_weight(params_.bits_per_table, params_.num_tables, params_.min_collisions),
                         inverse_norms_.data(), scratch.query_offsets.data(), scratch.inverse_query_norms.data()};
}

std::int64_t LshTables::bytes() const noexcept {
  const auto base = base_ ? static_cast<std::int64_t>(base_->offsets.size() + base_->ids.size()) * 4 : 0;
  return base + static_cast<std::int64_t>(tail_codes_.size()) * 2 +
         static_cast<std::int64_t>(inverse_norms_.size() + mean_.size()) * 4;
}

}  // namespace tandem::lsh
