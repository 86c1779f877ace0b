#include "tools/tandem/coded_head.h"

#include <algorithm>
#include <cmath>

#include "cpu/row_layout.h"
#include "tools/tandem/coded_blocks.h"

namespace tandem::cli {
namespace {

/// One head of `tensor` (heads, tokens, dim) as fp32.
std::vector<float> head_of(const tools::Tensor& tensor, std::int32_t head, std::int64_t tokens) {
  const std::int64_t dim = tensor.shape[2];
  std::vector<float> values(static_cast<std::size_t>(tokens * dim));
  const auto row_bytes = dim * static_cast<std::int64_t>(bytes_of(tensor.dtype));
  load_f32(tensor.dtype, tensor.data + head * tensor.shape[1] * row_bytes, values.data(), tokens * dim);
  return values;
}

/// Rows of `dim` elements at a distance of `stride`; what lies between is zero in the target.
std::vector<float> restrided(const float* rows, std::int64_t count, std::int64_t dim, std::int64_t from,
                             std::int64_t to) {
  std::vector<float> result(static_cast<std::size_t>(count * to));
  for (std::int64_t i = 0; i < count; ++i) std::copy_n(rows + i * from, dim, result.data() + i * to);
  return result;
}

void append(std::vector<float>& to, const std::vector<float>& values) {
  to.insert(to.end(), values.begin(), values.end());
}

void code_blocks(const cpu::BlockCodec& codec, CodedHead& head) {
  const auto& format = codec.format();
  std::vector<std::byte> block(static_cast<std::size_t>(format.block_bytes));
  std::vector<float> k(static_cast<std::size_t>(format.block_rows * format.padded_k));
  std::vector<float> v(static_cast<std::size_t>(format.block_rows * format.padded_v));
  for (std::int64_t first = 0; first < head.tokens; first += format.block_rows) {
    codec.encode(
        restrided(head.k.data() + first * format.dim_k, format.block_rows, format.dim_k, format.dim_k, format.padded_k)
            .data(),
        restrided(head.v.data() + first * format.dim_v, format.block_rows, format.dim_v, format.dim_v, format.padded_v)
            .data(),
        first, block.data());
    codec.decode(block.data(), first, 0, format.block_rows, k.data(), v.data());
    append(head.coded_k, restrided(k.data(), format.block_rows, format.dim_k, format.padded_k, format.dim_k));
    append(head.coded_v, restrided(v.data(), format.block_rows, format.dim_v, format.padded_v, format.dim_v));
  }
}

void round_values(DType dtype, const std::vector<float>& values, std::vector<float>& rounded) {
  std::vector<std::byte> bytes(values.size() * bytes_of(dtype));
  rounded.resize(values.size());
  store_f32(dtype, values.data(), bytes.data(), std::ssize(values));
  load_f32(dtype, bytes.data(), rounded.data(), std::ssize(values));
}

}  // namespace

CodedHead code_head(const td_config& config, const tools::TraceLayer& layer, std::int32_t kv_head) {
  const auto load = [&](std::int64_t block_rows) {
    CodedHead head;
    head.tokens = layer.k.shape[1] / block_rows * block_rows;
    head.k = head_of(layer.k, kv_head, head.tokens);
    head.v = head_of(layer.v, kv_head, head.tokens);
    return head;
  };
  if (config.window_codec == nullptr) {
    auto head = load(1);
    round_values(static_cast<DType>(config.window_dtype), head.k, head.coded_k);
    round_values(static_cast<DType>(config.window_dtype), head.v, head.coded_v);
    return head;
  }
  const auto codec = block_codec_of(config, layer.layer, kv_head);
  auto head = load(codec.format().block_rows);
  code_blocks(codec, head);
  return head;
}

double relative_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double delta = static_cast<double>(a[i]) - b[i];
    difference += delta * delta;
    norm += static_cast<double>(b[i]) * b[i];
  }
  return difference == 0 ? 0 : std::sqrt(difference / norm);
}

double mean_logit_error(const CodedHead& head, const std::vector<float>& queries, std::int64_t dim, double scale) {
  double sum = 0;
  const auto num_queries = std::ssize(queries) / dim;
  for (std::int64_t i = 0; i < num_queries; ++i) {
    for (std::int64_t token = 0; token < head.tokens; ++token) {
      double logit = 0;
      for (std::int64_t d = 0; d < dim; ++d) {
        const auto at = static_cast<std::size_t>(token * dim + d);
        logit += static_cast<double>(queries[static_cast<std::size_t>(i * dim + d)]) *
                 (static_cast<double>(head.coded_k[at]) - head.k[at]);
      }
      sum += std::abs(scale * logit);
    }
  }
  const auto count = num_queries * head.tokens;
  return count > 0 ? sum / static_cast<double>(count) : 0;
}

}  // namespace tandem::cli
