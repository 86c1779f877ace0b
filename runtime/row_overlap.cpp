#include "runtime/row_overlap.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "runtime/base/error.h"

namespace tandem {
namespace {

/// Bytes [begin, end). Integers, because the tensors are different objects.
struct Extent {
  std::int64_t begin, end;

  [[nodiscard]] bool meets(const Extent& other) const noexcept { return begin < other.end && other.begin < end; }
};

std::int64_t address_of(const std::byte* byte) noexcept {
  return static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(byte));
}

/// Where the rows of a tensor lie, the dimension with the larger stride outside: all rows of the inner one then come
/// before the next of the outer, whichever of tokens and heads that is and in whichever direction they are stored.
class RowExtents {
 public:
  template <typename Byte>
  explicit RowExtents(const BasicTensorView<Byte>& tensor) noexcept
      : first_(address_of(tensor.data)),
        row_bytes_(bytes_of(tensor.dtype, tensor.dim)),
        outer_(dimension(tensor.tokens, tensor.token_stride)),
        inner_(dimension(tensor.heads, tensor.head_stride)) {
    if (outer_.stride < inner_.stride) std::swap(outer_, inner_);
  }

  [[nodiscard]] bool empty() const noexcept { return outer_.count <= 0 || inner_.count <= 0; }
  [[nodiscard]] Extent whole() const noexcept { return {first_, row(outer_.count - 1, inner_.count - 1).end}; }
  /// The last row that begins before `end`, which is beyond the first row's begin.
  [[nodiscard]] Extent last_before(std::int64_t end) const noexcept {
    const std::int64_t offset = end - 1 - first_;
    const std::int64_t outer = outer_.last_at(offset);
    return row(outer, inner_.last_at(offset - outer * outer_.stride));
  }

 private:
  struct Dimension {
    std::int64_t count, stride;

    [[nodiscard]] std::int64_t last_at(std::int64_t offset) const noexcept {
      return stride == 0 ? 0 : std::min(offset / stride, count - 1);
    }
  };

  /// Strides count upwards from here on.
  Dimension dimension(std::int64_t count, std::int64_t stride) noexcept {
    if (count <= 1) return {count, 0};
    if (stride < 0) first_ += (count - 1) * stride;
    return {count, std::abs(stride)};
  }
  [[nodiscard]] Extent row(std::int64_t outer, std::int64_t inner) const noexcept {
    const std::int64_t begin = first_ + outer * outer_.stride + inner * inner_.stride;
    return {begin, begin + row_bytes_};
  }

  std::int64_t first_;
  std::int64_t row_bytes_;
  Dimension outer_, inner_;
};

}  // namespace

void check_apart(const char* out_name, const MutableTensorView& out, const char* in_name, const TensorView& in) {
  const RowExtents written(out);
  const RowExtents read(in);
  if (written.empty() || read.empty()) return;
  const Extent all = read.whole();
  if (!written.whole().meets(all)) return;
  const std::int64_t row_bytes = bytes_of(out.dtype, out.dim);
  for (std::int64_t token = 0; token < out.tokens; ++token) {
    for (std::int64_t head = 0; head < out.heads; ++head) {
      const std::int64_t begin = address_of(out.row(token, head));
      const Extent row{begin, begin + row_bytes};
      TANDEM_CHECK(!row.meets(all) || !row.meets(read.last_before(row.end)), invalid_argument, out_name, " of token ",
                   token, ", head ", head, " overlaps ", in_name, "; allowed: rows without a byte in common");
    }
  }
}

}  // namespace tandem
