#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "cpu/aligned_vector.h"
#include "cpu/kernels.h"
#include "cpu/key_coding.h"

namespace tandem::testing {

/// What a KeyCoder has to do, by the kernels of one instruction set.
inline void code_on_host(const cpu::Kernels& kernels, const cpu::KeyCoding& coding) {
  const cpu::RowLayout& layout = coding.store->layout();
  const auto dim = static_cast<std::size_t>(layout.padded_k), count = static_cast<std::size_t>(coding.count);
  cpu::AlignedVector<float> centred(count * dim);
  for (std::size_t r = 0; r < count; ++r) {
    float* key = centred.data() + r * dim;
    cpu::load_key(layout, coding.store->row(coding.first + static_cast<std::int64_t>(r)), key);
    double sums[8] = {}, square = 0;  // as LshTables adds them
    for (std::size_t d = 0; d < dim; ++d) {
      key[d] -= coding.mean[d];
      sums[d % 8] += static_cast<double>(key[d]) * key[d];
    }
    for (const double sum : sums) square += sum;
    if (coding.inverse_norms != nullptr)
      coding.inverse_norms[r] = square > 0 ? static_cast<float>(1.0 / std::sqrt(square)) : 0.f;
  }
  constexpr std::int64_t kRows = cpu::kCodedBlockRows;
  for (std::int64_t first = 0; first < coding.count; first += kRows) {
    const int rows = static_cast<int>(std::min(kRows, coding.count - first));
    const float* keys = centred.data() + static_cast<std::size_t>(first) * dim;
    std::byte* block = coding.blocks[first / kRows];
    if (const auto* sketch = std::get_if<cpu::SketchTables>(&coding.tables)) {
      const cpu::SketchFormat& format = *sketch->format;
      cpu::AlignedVector<float> z(static_cast<std::size_t>(rows * format.padded_dims));
      kernels.sketch.project(keys, rows, layout.padded_k, sketch->planes, format.padded_dims, z.data());
      std::memset(block, 0, static_cast<std::size_t>(format.block_bytes()));
      kernels.sketch.encode(format, z.data(), rows, block, 0);
      continue;
    }
    const cpu::SimHash& hash = *std::get<const cpu::SimHash*>(coding.tables);
    std::vector<std::uint16_t> codes(static_cast<std::size_t>(hash.codes_size(rows)));
    cpu::HashScratch scratch;
    hash.encode(kernels, keys, rows, codes.data(), scratch);
    for (std::int64_t r = rows; r < kRows; ++r) {
      for (int t = 0; t < hash.num_tables(); ++t) codes[hash.code_index(r, t)] = 0;
    }
    std::memcpy(block, codes.data(), codes.size() * sizeof(std::uint16_t));
  }
}

}  // namespace tandem::testing
