#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/runtime.h"
#include "tests/support/reference_sequence.h"

namespace tandem::testing {

/// out (queries, num_q_heads, head_dim_v) and lse (queries, num_q_heads) of one attend call, and what it says of them.
struct Attended {
  std::vector<float> out;
  std::vector<float> lse;
  std::vector<float> error = {};             ///< (queries, num_q_heads), estimated
  std::vector<std::uint8_t> certified = {};  ///< likewise
  StepStats stats = {};
};

struct AttendOptions {
  std::int32_t layer = 0;
  bool use_window = true;
  bool use_host = true;
  bool exact = false;
  ReferenceRule rule = {};
};

/// What some window policies take with new tokens; see AppendRequest. Empty: not given.
struct PolicyInput {
  std::vector<float> keep, merge, importance;  ///< (tokens, num_kv_heads)
  std::vector<float> q;                        ///< (tokens, num_q_heads, head_dim_k)
};

/// Appends fp32 tokens of one layer to one sequence.
inline StepStats append(Runtime& runtime, std::uint64_t sequence, const std::vector<float>& k,
                        const std::vector<float>& v, std::int32_t layer = 0, const PolicyInput& input = {}) {
  const AttentionShape& shape = runtime.config().shape;
  const std::int64_t tokens =
      static_cast<std::int64_t>(k.size()) / (std::int64_t{shape.num_kv_heads} * shape.head_dim_k);
  AppendRequest request;
  request.layer = layer;
  request.sequences = {&sequence, 1};
  request.num_tokens = {&tokens, 1};
  request.kv = {dense_view(k.data(), DType::f32, tokens, shape.num_kv_heads, shape.head_dim_k),
                dense_view(v.data(), DType::f32, tokens, shape.num_kv_heads, shape.head_dim_v)};
  if (!input.q.empty()) request.q = dense_view(input.q.data(), DType::f32, tokens, shape.num_q_heads, shape.head_dim_k);
  if (!input.keep.empty()) request.keep = input.keep.data();
  if (!input.merge.empty()) request.merge = input.merge.data();
  if (!input.importance.empty()) request.importance = input.importance.data();
  return runtime.append(request);
}

/// Attends with queries (sum of counts, num_q_heads, head_dim_k) of the last tokens of each sequence.
inline Attended attend(Runtime& runtime, const std::vector<std::uint64_t>& sequences,
                       const std::vector<std::int64_t>& counts, const std::vector<float>& q,
                       const AttendOptions& options = {}) {
  const AttentionShape& shape = runtime.config().shape;
  const std::int64_t queries =
      static_cast<std::int64_t>(q.size()) / (std::int64_t{shape.num_q_heads} * shape.head_dim_k);
  Attended result;
  result.out.resize(static_cast<std::size_t>(queries * shape.num_q_heads * shape.head_dim_v));
  result.lse.resize(static_cast<std::size_t>(queries * shape.num_q_heads));
  AttendRequest request;
  request.layer = options.layer;
  request.use_window = options.use_window;
  request.use_host = options.use_host;
  request.exact = options.exact;
  request.sequences = sequences;
  request.num_queries = counts;
  request.q = dense_view(q.data(), DType::f32, queries, shape.num_q_heads, shape.head_dim_k);
  request.out = dense_view(result.out.data(), DType::f32, queries, shape.num_q_heads, shape.head_dim_v);
  request.lse = result.lse.data();
  result.error.resize(result.lse.size());
  result.certified.resize(result.lse.size());
  request.error = result.error.data();
  request.certified = result.certified.data();
  request.sliding_window = options.rule.sliding_window;
  if (!options.rule.alibi.empty()) request.alibi = options.rule.alibi.data();
  if (!options.rule.sinks.empty()) request.sink_logits = options.rule.sinks.data();
  result.stats = runtime.attend(request);
  return result;
}

inline Attended attend(Runtime& runtime, std::uint64_t sequence, std::int64_t count, const std::vector<float>& q,
                       const AttendOptions& options = {}) {
  return attend(runtime, std::vector<std::uint64_t>{sequence}, std::vector<std::int64_t>{count}, q, options);
}

/// A model's stream of tokens for one layer: random K, V and q from a seed.
class TokenSource {
 public:
  TokenSource(const AttentionShape& shape, std::uint64_t seed, DType dtype = DType::f32, double key_scale = 1.0)
      : shape_(shape), random_(seed, 0), dtype_(dtype), key_scale_(key_scale) {}

  struct Tokens {
    std::vector<float> k, v;
  };
  Tokens tokens(std::int64_t count) {
    Tokens tokens;
    tokens.k = representable_normals(random_, count * shape_.num_kv_heads * shape_.head_dim_k, dtype_, key_scale_);
    tokens.v = representable_normals(random_, count * shape_.num_kv_heads * shape_.head_dim_v, dtype_);
    return tokens;
  }
  std::vector<float> queries(std::int64_t count) {
    return representable_normals(random_, count * shape_.num_q_heads * shape_.head_dim_k, DType::f32);
  }

 private:
  AttentionShape shape_;
  CounterRandom random_;
  DType dtype_;
  double key_scale_;
};

/// What a call that throws says.
inline std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

/// Elements of tokens [first, first + count) of a tensor of `width` floats per token.
inline std::vector<float> rows_of(const std::vector<float>& tensor, std::int64_t first, std::int64_t count,
                                  std::int64_t width) {
  return {tensor.begin() + first * width, tensor.begin() + (first + count) * width};
}

/// Tokens [first, first + count).
inline TokenSource::Tokens slice(const TokenSource::Tokens& tokens, std::int64_t first, std::int64_t count,
                                 const AttentionShape& shape) {
  return {rows_of(tokens.k, first, count, std::int64_t{shape.num_kv_heads} * shape.head_dim_k),
          rows_of(tokens.v, first, count, std::int64_t{shape.num_kv_heads} * shape.head_dim_v)};
}

/// Largest errors of `attended` against the reference for the last `count` tokens.
struct WorstError {
  double out = 0;
  double lse = 0;
};
inline WorstError worst_error(const Attended& attended, const std::vector<float>& q, std::int64_t count,
                              const ReferenceSequence& reference, const AttentionShape& shape,
                              const ReferenceRule& rule = {}) {
  WorstError worst;
  for (std::int64_t i = 0; i < count; ++i) {
    for (int h = 0; h < shape.num_q_heads; ++h) {
      const std::int64_t row = i * shape.num_q_heads + h;
      const auto expected =
          reference.attend(q.data() + row * shape.head_dim_k, h, reference.length() - count + i, rule);
      worst.out = std::max(worst.out, relative_error(attended.out.data() + row * shape.head_dim_v, expected.out));
      worst.lse = std::max(worst.lse, std::abs(attended.lse[static_cast<std::size_t>(row)] - expected.lse));
    }
  }
  return worst;
}

}  // namespace tandem::testing
