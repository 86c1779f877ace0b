#include "tools/tandem/batch_row.h"

#include "runtime/base/dtype.h"

namespace tandem::cli {

BatchRow::BatchRow(const tools::Tensor& tensor, std::int64_t token, int batch) {
  const auto row = static_cast<std::size_t>(tensor.shape[2]) * bytes_of(tensor.dtype);
  for (int b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < tensor.shape[0]; ++h) {
      const auto* begin = tensor.data + static_cast<std::size_t>(h * tensor.shape[1] + token) * row;
      bytes_.insert(bytes_.end(), begin, begin + row);
    }
  }
  view_ = td::tensor(bytes_.data(), static_cast<td_dtype>(tensor.dtype), batch, tensor.shape[0], tensor.shape[2]);
}

}  // namespace tandem::cli
