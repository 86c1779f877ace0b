#include "tools/ggml/rounded_queries.h"

#include <algorithm>
#include <cstddef>

#include "ggml.h"
#include "tandem/tandem.hpp"
#include "tools/ggml/cpu_conversions.h"

namespace tandem::ggml {
namespace {

const float* query(const ggml_tensor& q, std::int64_t token, std::int64_t head, std::int64_t stream) {
  const auto at = [&](int axis, std::int64_t index) { return index * static_cast<std::int64_t>(q.nb[axis]); };
  const char* place = static_cast<const char*>(q.data) + at(1, token) + at(2, head) + at(3, stream);
  return reinterpret_cast<const float*>(place);
}

}  // namespace

td_tensor round_queries(const AttentionOp& op, std::vector<float>& rounded) {
  const CpuConversions conversions = *cpu_conversions(op.k->type);
  const std::int64_t dim = op.q->ne[0];
  rounded.resize(static_cast<std::size_t>(op.num_queries() * op.num_q_heads() * dim));
  std::vector<std::byte> factor(ggml_row_size(conversions.factor_type, dim));
  float* to = rounded.data();
  for (std::int64_t stream = 0; stream < op.streams(); ++stream) {
    for (std::int64_t token = 0; token < op.tokens(); ++token) {
      for (std::int64_t head = 0; head < op.num_q_heads(); ++head, to += dim) {
        const float* from = query(*op.q, token, head, stream);
        if (conversions.factor_to_float == nullptr) {
          std::copy_n(from, dim, to);
        } else {
          conversions.to_factor(from, factor.data(), dim);
          conversions.factor_to_float(factor.data(), to, dim);
        }
      }
    }
  }
  return td::tensor(rounded.data(), TD_F32, op.num_queries(), op.num_q_heads(), dim);
}

}  // namespace tandem::ggml
