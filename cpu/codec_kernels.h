#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/codec/codec_kind.h"

namespace tandem::cpu {

struct BlockFormat;
struct SoftmaxState;

/// Up to kBlockRows rows of a coded block; of one of 128 rows, some of the first or some of the second 64.
struct CodedRows {
  const std::byte* block;
  int first;
  int count;
  std::int64_t first_position;          ///< of row 0 of the block
  const std::byte* upcoming = nullptr;  ///< fetched into the cache meanwhile: what a later call reads
  std::int64_t upcoming_bytes = 0;      ///< a multiple of 64
};

/// Attention over the codes of one kind of block, of one instruction set. Raw pointers and counts only, as in Kernels;
/// each kernel sees the rows as BlockCodec::decode states them, without ever holding more than one block decoded.
struct BlockCodecKernels {
  /// What `scores` takes in place of queries: (num_vectors, format.prepared_dim) from (num_vectors, padded_k). nullptr:
  /// the queries themselves.
  void (*prepare)(const BlockFormat& format, const float* queries, int num_vectors, float* prepared) noexcept;
  /// scores[v][r] = <q[v], k[first + r]>, r < count, row stride kBlockRows; entries beyond count are -inf. `decoded` is
  /// scratch for (kBlockRows, max(padded_k, padded_v)) floats.
  void (*scores)(const BlockFormat& format, const CodedRows& rows, const float* prepared, int num_vectors,
                 float* decoded, float* scores) noexcept;
  /// Adds the rows to the running softmax, whose acc is in the order of the dimensions; -inf scores are left out.
  /// `scores` becomes e^(score - max). `decoded` as above.
  void (*accumulate)(const BlockFormat& format, const CodedRows& rows, float* scores, int num_vectors, float* decoded,
                     SoftmaxState state) noexcept;
};

/// One set of kernels for each kind of block; that of CodecKind::none is empty.
struct ByCodecKind {
  BlockCodecKernels kernels[kNumCodecKinds];

  constexpr const BlockCodecKernels& operator[](CodecKind kind) const noexcept {
    return kernels[static_cast<std::size_t>(kind)];
  }
};

}  // namespace tandem::cpu
