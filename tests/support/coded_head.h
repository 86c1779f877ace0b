#pragma once

#include <cmath>
#include <vector>

#include "cpu/attention_pass.h"
#include "cpu/codec/block_codec.h"
#include "cpu/reference_attention.h"
#include "runtime/base/random.h"
#include "tests/support/reference_sequence.h"

namespace tandem::testing {

/// Random keys, values and queries of one KV head and its group, with K and V in coded blocks back to back, and what
/// the blocks stand for. Rows beyond `rows` fill the last block.
struct CodedHead {
  struct Options {
    double key_scale = 1.0, value_scale = 1.0;
    int num_queries = 1;
    std::int64_t first_position = 0;
    cpu::RopeParams rope = {};
  };
  CodedHead(const cpu::CodecParams& params, const AttentionShape& of_shape, std::int64_t rows)
      : CodedHead(params, of_shape, rows, Options{}) {}
  CodedHead(const cpu::CodecParams& params, const AttentionShape& of_shape, std::int64_t rows, const Options& options)
      : shape(of_shape),
        codec(params, of_shape, options.rope, 0, 0),
        first_position(options.first_position),
        num_blocks((rows + codec.format().block_rows - 1) / codec.format().block_rows) {
    const cpu::BlockFormat& f = codec.format();
    CounterRandom random(static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(shape.head_dim_k));
    k = normals(random, num_blocks * f.block_rows, f.dim_k, f.padded_k, options.key_scale);
    v = normals(random, num_blocks * f.block_rows, f.dim_v, f.padded_v, options.value_scale);
    q = normals(random, std::int64_t{options.num_queries} * shape.group_size(), f.dim_k, f.padded_k,
                static_cast<double>(shape.scale));
    encode();
  }

  /// Blocks and what they stand for, anew from k and v.
  void encode() {
    const cpu::BlockFormat& f = codec.format();
    blocks.assign(static_cast<std::size_t>(num_blocks * f.block_bytes), std::byte{0xff});
    decoded_k.assign(k.size(), 7.f);
    decoded_v.assign(v.size(), 7.f);
    for (std::int64_t b = 0; b < num_blocks; ++b) {
      const std::int64_t row = b * f.block_rows;
      codec.encode(k.data() + row * f.padded_k, v.data() + row * f.padded_v, first_position + row,
                   blocks.data() + b * f.block_bytes);
      codec.decode(blocks.data() + b * f.block_bytes, first_position + row, 0, f.block_rows,
                   decoded_k.data() + row * f.padded_k, decoded_v.data() + row * f.padded_v);
    }
  }

  /// The oracle over rows [first, end) of keys and values in the padded layout of k and v; `biases` (end - first) are
  /// added to the logits, or empty.
  [[nodiscard]] cpu::reference::Result expected(const cpu::AlignedVector<float>& keys,
                                                const cpu::AlignedVector<float>& values, int vector, std::int64_t first,
                                                std::int64_t end, const std::vector<double>& biases = {},
                                                double softcap = 0.0) const {
    const cpu::BlockFormat& f = codec.format();
    const float* query = q.data() + static_cast<std::ptrdiff_t>(vector) * f.padded_k;
    return cpu::reference::attention(
        {unpadded(query, 0, 1, f.dim_k, f.padded_k), unpadded(keys.data(), first, end, f.dim_k, f.padded_k),
         unpadded(values.data(), first, end, f.dim_v, f.padded_v), biases, 1.0, softcap},
        f.dim_v);
  }

  AttentionShape shape;
  cpu::BlockCodec codec;
  std::int64_t first_position, num_blocks;
  cpu::AlignedVector<float> k, v, decoded_k, decoded_v;  ///< (rows of the blocks, padded dim)
  cpu::AlignedVector<float> q;                           ///< (num_queries, group, padded_k), scaled
  cpu::AlignedVector<std::byte> blocks;

 private:
  static cpu::AlignedVector<float> normals(CounterRandom& random, std::int64_t rows, int dim, int padded_dim,
                                           double scale) {
    cpu::AlignedVector<float> x(static_cast<std::size_t>(rows * padded_dim), 0.f);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (int d = 0; d < dim; ++d)
        x[static_cast<std::size_t>(r * padded_dim + d)] = static_cast<float>(scale * random.normal());
    }
    return x;
  }
  static std::vector<double> unpadded(const float* x, std::int64_t first, std::int64_t end, int dim, int padded_dim) {
    std::vector<double> result;
    for (std::int64_t r = first; r < end; ++r)
      result.insert(result.end(), x + r * padded_dim, x + r * padded_dim + dim);
    return result;
  }
};

}  // namespace tandem::testing
