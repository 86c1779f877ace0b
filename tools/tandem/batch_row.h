#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tandem/tandem.hpp"
#include "tools/formats/trace.h"

namespace tandem::cli {

/// One token of a trace's tensor (heads, tokens, dim), the same for every sequence of a batch: (batch, heads, dim),
/// dense, as the calls of a batched step take it.
class BatchRow {
 public:
  BatchRow(const tools::Tensor& tensor, std::int64_t token, int batch);
  BatchRow(const BatchRow&) = delete;
  BatchRow& operator=(const BatchRow&) = delete;
  [[nodiscard]] td_tensor view() const noexcept { return view_; }

 private:
  std::vector<std::byte> bytes_;
  td_tensor view_{};
};

}  // namespace tandem::cli
