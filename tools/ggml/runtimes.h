#pragma once

#include <cstdint>
#include <vector>

#include "tandem/tandem.hpp"
#include "tools/ggml/attention_op.h"
#include "tools/ggml/settings.h"

namespace tandem::ggml {

/// The runtimes of one context: a td_rt has one attention shape, and layers of a model may differ in theirs. Not
/// thread-safe.
class Runtimes {
 public:
  explicit Runtimes(const Settings& settings) : settings_(settings) {}

  /// The runtime for the op's shape, created at its first use with as many workers as the engine uses at that time,
  /// unless TANDEM_THREADS says otherwise. Throws td::Error. The reference
  /// holds until the next call.
  const td::Runtime& runtime_for(const AttentionOp& op, int engine_threads);

 private:
  struct Shape {
    std::int64_t num_q_heads, num_kv_heads, head_dim_k, head_dim_v;
    float scale, softcap;
    bool operator==(const Shape&) const = default;
  };
  struct Entry {
    Shape shape;
    td::Runtime runtime;
  };
  [[nodiscard]] td::Runtime make(const Shape& shape, int engine_threads) const;

  Settings settings_;
  std::vector<Entry> entries_;
};

}  // namespace tandem::ggml
