#include "bench/baselines/plain_tables.h"

#include <algorithm>
#include <cmath>

namespace tandem::bench {
namespace {

constexpr std::int64_t kChunkRows = 256;  // rows that are decoded, centred and hashed together

std::size_t product(std::int64_t a, std::int64_t b) noexcept { return static_cast<std::size_t>(a * b); }

}  // namespace

void PlainTables::encode(const cpu::Kernels& kernels, const float* vectors, std::int64_t count, std::uint16_t* codes) {
  const int tables = hash_->num_tables();
  blocks_.resize(static_cast<std::size_t>(hash_->codes_size(count)));
  hash_->encode(kernels, vectors, count, blocks_.data(), hash_scratch_);
  for (std::int64_t v = 0; v < count; ++v) {
    for (int t = 0; t < tables; ++t) codes[v * tables + t] = blocks_[hash_->code_index(v, t)];
  }
}

void PlainTables::build(const cpu::Kernels& kernels, const cpu::KvStore& store, const std::vector<float>& mean,
                        std::int64_t sorted_rows) {
  const std::int64_t tables = hash_->num_tables(), rows = store.size();
  const auto dim = static_cast<std::int64_t>(mean.size());
  std::vector<std::uint16_t> codes(product(rows, tables));
  inverse_norms_.resize(static_cast<std::size_t>(rows));
  centred_.resize(product(kChunkRows, dim));
  for (std::int64_t done = 0; done < rows; done += kChunkRows) {
    const std::int64_t count = std::min(kChunkRows, rows - done);
    for (std::int64_t r = 0; r < count; ++r) {
      float* key = centred_.data() + r * dim;
      load_f32(store.layout().dtype, store.row(done + r), key, dim);
      double square = 0;
      for (std::int64_t d = 0; d < dim; ++d) {
        key[d] -= mean[static_cast<std::size_t>(d)];
        square += static_cast<double>(key[d]) * key[d];
      }
      inverse_norms_[static_cast<std::size_t>(done + r)] =
          square > 0 ? static_cast<float>(1.0 / std::sqrt(square)) : 0.f;
    }
    encode(kernels, centred_.data(), count, codes.data() + product(done, tables));
  }
  sorted_rows_ = std::min(rows, sorted_rows);
  tail_codes_.assign(codes.begin() + static_cast<std::ptrdiff_t>(product(sorted_rows_, tables)), codes.end());
  sort(codes);
}

void PlainTables::sort(const std::vector<std::uint16_t>& codes) {
  const std::int64_t tables = hash_->num_tables(), buckets = std::int64_t{1} << hash_->bits_per_table();
  offsets_.assign(product(tables, buckets + 1), 0);
  ids_.resize(product(tables, sorted_rows_));
  std::vector<std::uint32_t> cursor(static_cast<std::size_t>(buckets));
  for (std::int64_t t = 0; t < tables; ++t) {
    const auto code = [&](std::int64_t row) { return codes[product(row, tables) + static_cast<std::size_t>(t)]; };
    std::uint32_t* offsets = offsets_.data() + t * (buckets + 1);
    for (std::int64_t r = 0; r < sorted_rows_; ++r) ++offsets[code(r) + 1];
    for (std::int64_t b = 0; b < buckets; ++b) {
      cursor[static_cast<std::size_t>(b)] = offsets[b];
      offsets[b + 1] += offsets[b];
    }
    for (std::int64_t r = 0; r < sorted_rows_; ++r) {
      ids_[product(t, sorted_rows_) + cursor[code(r)]++] = static_cast<std::uint32_t>(r);
    }
  }
}

void PlainTables::count_collisions(const std::uint16_t* query_codes, std::uint64_t head_bit) {
  const std::int64_t tables = hash_->num_tables(), buckets = std::int64_t{1} << hash_->bits_per_table();
  const auto needed = static_cast<std::uint8_t>(min_collisions_);
  collisions_.assign(static_cast<std::size_t>(sorted_rows_), 0);
  for (std::int64_t t = 0; t < tables; ++t) {
    const std::uint32_t* offsets = offsets_.data() + t * (buckets + 1) + query_codes[t];
    const std::uint32_t* ids = ids_.data() + t * sorted_rows_;
    for (std::uint32_t i = offsets[0]; i < offsets[1]; ++i) {
      std::uint8_t& count = collisions_[ids[i]];
      if (count >= needed) continue;  // stops counting there, so 300 tables cannot overflow a byte
      if (++count == needed) masks_[ids[i]] |= head_bit;
    }
  }
  for (std::size_t r = 0; r < tail_codes_.size() / static_cast<std::size_t>(tables); ++r) {
    const std::uint16_t* codes = tail_codes_.data() + r * static_cast<std::size_t>(tables);
    int count = 0;
    for (std::int64_t t = 0; t < tables; ++t) count += codes[t] == query_codes[t] ? 1 : 0;
    if (count >= needed) masks_[static_cast<std::size_t>(sorted_rows_) + r] |= head_bit;
  }
}

void PlainTables::select(const lsh::SelectRequest& request, cpu::Selection& selection) {
  selection.clear();
  const int group = request.queries.group_size;
  query_codes_.resize(product(group, hash_->num_tables()));
  encode(request.kernels, request.queries.q, group, query_codes_.data());
  masks_.assign(inverse_norms_.size(), 0);
  for (int h = 0; h < group; ++h) {
    count_collisions(query_codes_.data() + product(h, hash_->num_tables()), std::uint64_t{1} << h);
  }
  for (std::int64_t r = request.begin; r < request.end; ++r) {
    const std::uint64_t mask = masks_[static_cast<std::size_t>(r)];
    if (mask == 0) continue;
    selection.rows.push_back(static_cast<std::uint32_t>(r));
    selection.head_mask.push_back(mask);
  }
}

std::int64_t PlainTables::bytes() const noexcept {
  return static_cast<std::int64_t>((offsets_.size() + ids_.size() + inverse_norms_.size()) * 4 +
                                   tail_codes_.size() * 2);
}

}  // namespace tandem::bench
