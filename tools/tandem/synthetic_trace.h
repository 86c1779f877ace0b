#pragma once

#include <cstdint>
#include <vector>

#include "runtime/base/dtype.h"
#include "tools/formats/trace.h"
#include "tools/tandem/progress.h"

namespace tandem::cli {

struct SyntheticShape {
  std::int64_t tokens = 32768;
  std::int64_t steps = 64;
  std::int32_t num_kv_heads = 8;
  std::int32_t num_q_heads = 32;
  std::int32_t head_dim = 128;
  DType dtype = DType::bf16;
  std::uint64_t seed = 1;
};

/// One layer of made-up heads that are hard in the ways real ones are.
///
/// Per KV head: a common mean (2 N(0, I)); a spectrum falling like (1 + j)^-1/4 in a random basis; keys in segments of
/// 32 tokens around one of 256 cluster centres, values likewise; RoPE in halves with theta 5e5. Each query aims at one
/// random key with cosine about 0.5 (after the mean of the keys is taken off). The same numbers for the same shape and
/// seed, whatever the threads.
class SyntheticTrace {
 public:
  SyntheticTrace(const SyntheticShape& shape, int threads);

  [[nodiscard]] const tools::TraceMeta& meta() const noexcept { return meta_; }
  /// Views into this object: k, v, dec_q, dec_k, dec_v, already rounded to the dtype.
  [[nodiscard]] tools::TraceLayer layer() const;

 private:
  struct Head;
  void make_keys(const Head& head, std::int64_t kv_head, std::int64_t first, std::int64_t count);
  void make_queries(std::int64_t kv_head);
  [[nodiscard]] std::vector<float> key(std::int64_t kv_head, std::int64_t position) const;

  SyntheticShape shape_;
  tools::TraceMeta meta_;
  std::vector<std::byte> k_, v_, dec_q_, dec_k_, dec_v_;
};

}  // namespace tandem::cli
