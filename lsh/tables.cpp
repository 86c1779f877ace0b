#include "lsh/tables.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/base/error.h"

namespace tandem::lsh {
namespace {

using cpu::kCodeBlock;

// Unsorted rows cost a query a comparison per table each, sorting costs a pass over all ids of a segment: sort when the
// tail exceeds both a fixed size and a share of the segment, so that the work per row stays constant.
constexpr int kSmallestSort = 256;
constexpr int kTailShare = 32;

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
void centre(const cpu::KvStore& store, const std::vector<float>& mean, std::int64_t begin, int count, float* centred,
            float* inverse_norms) {
  constexpr int kSums = 8;  // side by side, for the compiler's vectors; divides a padded dimension
  const auto dim = static_cast<std::int64_t>(mean.size());
  for (int r = 0; r < count; ++r) {
    float* key = centred + r * dim;
    cpu::load_key(store.layout(), store.row(begin + r), key);
    double squares[kSums] = {};
    for (std::int64_t d = 0; d < dim; d += kSums) {
      for (int i = 0; i < kSums; ++i) {
        key[d + i] -= mean[static_cast<std::size_t>(d + i)];
        squares[i] += static_cast<double>(key[d + i]) * key[d + i];
      }
    }
    double square = 0;
    for (const double s : squares) square += s;
    inverse_norms[r] = square > 0 ? static_cast<float>(1.0 / std::sqrt(square)) : 0.f;
  }
}

std::int64_t norm_bytes(std::size_t norms, std::size_t dim) noexcept {
  return static_cast<std::int64_t>(norms + dim) * 4;
}

/// The segment that further rows go into, or null.
const TableSegment* open_segment(const std::vector<TableSegment::Ref>& segments) noexcept {
  return segments.empty() || segments.back()->rows() == TableSegment::kMaxRows ? nullptr : segments.back().get();
}
int open_rows(const std::vector<TableSegment::Ref>& segments) noexcept {
  const TableSegment* open = open_segment(segments);
  return open == nullptr ? 0 : open->rows();
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
  TANDEM_CHECK(params.planes == cpu::HashPlanes::hadamard || params.planes == cpu::HashPlanes::gaussian,
               invalid_argument, "lsh_planes is ", static_cast<int>(params.planes),
               "; allowed: 0 (hadamard), 1 (gaussian)");
  TANDEM_CHECK(params.shared_bits >= cpu::kMinSharedBits && params.shared_bits <= cpu::kMaxSharedBits &&
                   params.shared_bits % 64 == 0,
               invalid_argument, "lsh_shared_bits is ", params.shared_bits, "; allowed: multiples of 64 from ",
               cpu::kMinSharedBits, " to ", cpu::kMaxSharedBits);
}

cpu::SimHashParams hash_params(const LshParams& params) noexcept {
  return {params.bits_per_table, params.num_tables, params.planes, params.shared_bits};
}

LshTables::LshTables(const LshParams& params, std::shared_ptr<const cpu::SimHash> hash, numa::MemoryLedger& ledger,
                     const cpu::KeyCoder* coder)
    : params_(params), hash_(std::move(hash)), ledger_(&ledger), coder_(coder) {}

void LshTables::hash_rows(const cpu::Kernels& kernels, const cpu::KvStore& store, std::int64_t first, int count,
                          TablesScratch& scratch, Extension& next) const {
  const int place = next.tail_rows % kCodeBlock;
  auto block = std::make_shared<CodeBlock>(shape(), *ledger_);
  scratch.centred.resize(product(kCodeBlock, static_cast<std::int64_t>(next.mean.size())));
  scratch.block_codes.resize(block->codes.size());
  next.added_norms.resize(next.added_norms.size() + static_cast<std::size_t>(count));
  centre(store, next.mean, first, count, scratch.centred.data(),
         next.added_norms.data() + next.added_norms.size() - count);
  hash_->encode(kernels, scratch.centred.data(), count, scratch.block_codes.data(), scratch.hash);
  if (place > 0) {
    block->codes = next.tail.back()->codes;
    next.tail.pop_back();
  }
  for (int t = 0; t < params_.num_tables; ++t) {
    const std::size_t table = hash_->code_index(0, t);
    std::copy_n(scratch.block_codes.data() + table, count, block->codes.data() + table + place);
  }
  next.tail.push_back(std::move(block));
  next.tail_rows += count;
}

bool LshTables::hand_over(const cpu::Kernels& kernels, const cpu::KvStore& store, std::int64_t first,
                          std::int64_t count, TablesScratch& scratch, Extension& next) const {
  if (count < cpu::kFewestRowsToHandOver || coder_ == nullptr || !*coder_ || next.tail_rows % kCodeBlock != 0)
    return false;
  std::vector<std::shared_ptr<CodeBlock>> blocks;
  scratch.blocks.clear();
  for (std::int64_t r = 0; r < count; r += kCodeBlock) {
    blocks.push_back(std::make_shared<CodeBlock>(shape(), *ledger_));
    scratch.blocks.push_back(reinterpret_cast<std::byte*>(blocks.back()->codes.data()));
  }
  const std::size_t norms = next.added_norms.size();
  next.added_norms.resize(norms + static_cast<std::size_t>(count));
  if (!(*coder_)({&store, first, count, next.mean.data(), hash_.get(), hash_, cpu::fuses(kernels.isa),
                  scratch.blocks.data(), next.added_norms.data() + norms})) {
    next.added_norms.resize(norms);
    return false;
  }
  next.tail.insert(next.tail.end(), blocks.begin(), blocks.end());
  next.tail_rows += static_cast<int>(count);
  return true;
}

void LshTables::merge_tail(Extension& next) const {
  const TableSegment* open = open_segment(next.segments);
  auto segment = TableSegment::merged(shape(), open, next.tail, next.tail_rows, *ledger_);
  if (open != nullptr) next.segments.pop_back();
  next.segments.push_back(std::move(segment));
  next.tail.clear();
  next.tail_rows = 0;
}

LshTables::Extension LshTables::prepare(const cpu::Kernels& kernels, const cpu::KvStore& store,
                                        TablesScratch& scratch) const {
  const std::int64_t first = size();
  const std::int64_t added = std::max<std::int64_t>(0, store.size() - first);
  const auto total = static_cast<std::size_t>(first + added);
  const bool grows = total > inverse_norms_.capacity();
  const std::size_t norms = grows ? total + total / kTailShare : inverse_norms_.capacity();
  Extension next;
  next.mean = mean_.empty() && added > 0 ? mean_key(store) : mean_;
  next.reservation = ledger_->reserve(norm_bytes(norms, next.mean.size()), "SimHash norms");
  next.segments = segments_;
  next.tail = tail_;
  next.tail_rows = tail_rows_;
  if (grows) {
    next.all_norms.reserve(norms);
    next.all_norms = inverse_norms_;
  }
  next.added_norms.reserve(static_cast<std::size_t>(added));
  for (std::int64_t done = 0; done < added;) {
    const int room = TableSegment::kMaxRows - open_rows(next.segments) - next.tail_rows;
    std::int64_t count = std::min<std::int64_t>(room, added - done);
    if (!hand_over(kernels, store, first + done, count, scratch, next)) {
      count = std::min<std::int64_t>(count, kCodeBlock - next.tail_rows % kCodeBlock);
      hash_rows(kernels, store, first + done, static_cast<int>(count), scratch, next);
    }
    if (count == room) merge_tail(next);  // the segment is full
    done += count;
  }
  if (next.tail_rows >= std::max(kSmallestSort, open_rows(next.segments) / kTailShare)) merge_tail(next);
  return next;
}

void LshTables::commit(Extension&& next) noexcept {
  mean_ = std::move(next.mean);
  segments_ = std::move(next.segments);
  tail_ = std::move(next.tail);
  tail_rows_ = next.tail_rows;
  if (next.all_norms.capacity() > 0) inverse_norms_ = std::move(next.all_norms);
  inverse_norms_.insert(inverse_norms_.end(), next.added_norms.begin(), next.added_norms.end());  // there is room
  reservation_ = std::move(next.reservation);
}

LshTables LshTables::fork(std::int64_t size) const {
  LshTables copy(params_, hash_, *ledger_, coder_);
  size = std::min(size, this->size());
  if (size == 0) return copy;  // the next rows are a first build again, with a mean of their own
  copy.mean_ = mean_;
  std::int64_t left = size;
  for (const TableSegment::Ref& segment : segments_) {
    const auto rows = static_cast<int>(std::min<std::int64_t>(left, segment->rows()));
    if (rows > 0) copy.segments_.push_back(rows == segment->rows() ? segment : segment->cut(rows, *ledger_));
    left -= rows;
  }
  copy.tail_rows_ = static_cast<int>(left);
  copy.tail_.assign(tail_.begin(), tail_.begin() + cpu::SimHash::num_blocks(left));
  copy.reservation_ = ledger_->reserve(norm_bytes(static_cast<std::size_t>(size), mean_.size()), "SimHash norms");
  copy.inverse_norms_.assign(inverse_norms_.begin(), inverse_norms_.begin() + size);
  return copy;
}

void LshTables::hash_queries(const SelectRequest& request, TablesScratch& scratch) const {
  const int group = request.queries.group_size;
  const auto dim = static_cast<std::int64_t>(mean_.size());
  scratch.block_codes.resize(static_cast<std::size_t>(hash_->codes_size(group)));
  hash_->encode(request.kernels, request.queries.q, group, scratch.block_codes.data(), scratch.hash);
  scratch.query_codes.resize(product(group, params_.num_tables));
  scratch.query_offsets.resize(static_cast<std::size_t>(group));
  scratch.inverse_query_norms.resize(static_cast<std::size_t>(group));
  for (int h = 0; h < group; ++h) {
    for (int t = 0; t < params_.num_tables; ++t) {
      scratch.query_codes[static_cast<std::size_t>(h * params_.num_tables + t)] =
          scratch.block_codes[hash_->code_index(h, t)];
    }
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
  }
}

std::int64_t LshTables::mark_tail(const cpu::Kernels& kernels, int heads, TablesScratch& scratch) const {
  for (int h = 0; h < heads; ++h) {
    const std::uint16_t* query_codes = scratch.query_codes.data() + product(h, params_.num_tables);
    for (int r = 0; r < tail_rows_; r += kCodeBlock) {
      kernels.simhash.mark_equal_codes(tail_[static_cast<std::size_t>(r / kCodeBlock)]->codes.data(), query_codes,
                                       params_.num_tables, CollisionMarks::bits(h), scratch.marks.row_bytes(h) + r);
    }
  }
  return static_cast<std::int64_t>(tail_.size()) * CodeBlock::bytes(shape()) * heads;
}

void LshTables::select(const SelectRequest& request, TablesScratch& scratch, cpu::Selection& selection) const {
  selection.clear();
  if (request.end <= request.begin) return;
  selection.certified = false;  // rows share tables: the spread treats them as independent
  const int group = request.queries.group_size;
  hash_queries(request, scratch);
  std::int64_t first = 0;
  for (std::size_t s = 0; s <= segments_.size(); ++s) {  // the tail comes last
    const TableSegment* segment = s < segments_.size() ? segments_[s].get() : nullptr;
    const std::int64_t rows = segment != nullptr ? segment->rows() : tail_rows_;
    if (first + rows > request.begin && first < request.end) {
      scratch.marks.reset(group, rows);
      selection.bytes_read += segment != nullptr ? segment->mark(scratch.query_codes.data(), group, scratch.marks)
                                                 : mark_tail(request.kernels, group, scratch);
      scratch.marks.append_found(request.kernels, params_.min_collisions, first, request.begin, request.end, selection);
    }
    first += rows;
  }
  selection.weights =
      cpu::CollisionRule{cpu::collision_weight(params_.bits_per_table, params_.num_tables, params_.min_collisions),
                         inverse_norms_.data(), scratch.query_offsets.data(), scratch.inverse_query_norms.data()};
}

std::int64_t LshTables::bytes() const noexcept {
  std::int64_t sum = norm_bytes(inverse_norms_.capacity(), mean_.size()) +
                     static_cast<std::int64_t>(tail_.size()) * CodeBlock::bytes(shape());
  for (const TableSegment::Ref& segment : segments_) sum += segment->bytes();
  return sum;
}

}  // namespace tandem::lsh
