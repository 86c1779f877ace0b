#include "tools/tandem/trace_calls.h"

#include <algorithm>

namespace tandem::cli {

td_tensor tokens_of(const tools::Tensor& tensor, std::int64_t first, std::int64_t tokens) {
  const auto row_bytes = tensor.shape[2] * static_cast<std::int64_t>(bytes_of(tensor.dtype));
  auto* data = const_cast<std::byte*>(tensor.data) + first * row_bytes;  // td_tensor has no const; input is not written
  return {data,
          {tokens, tensor.shape[0], tensor.shape[2]},
          {row_bytes, tensor.shape[1] * row_bytes},
          static_cast<std::int32_t>(tensor.dtype),
          0};
}

td_append_args append_args(std::int32_t layer, std::span<const td_seq> sequences, const std::int64_t* num_tokens,
                           const td_tensor& k, const td_tensor& v) {
  auto args = td::make<td_append_args>();
  args.layer = layer;
  args.num_seqs = static_cast<std::int32_t>(sequences.size());
  args.seqs = sequences.data();
  args.num_tokens = num_tokens;
  args.k = k;
  args.v = v;
  return args;
}

td_attend_args attend_args(std::int32_t layer, std::span<const td_seq> sequences, const std::int64_t* num_queries,
                           const td_tensor& q, const td_tensor& out) {
  auto args = td::make<td_attend_args>();
  args.layer = layer;
  args.parts = TD_PART_ALL;
  args.num_seqs = static_cast<std::int32_t>(sequences.size());
  args.seqs = sequences.data();
  args.num_queries = num_queries;
  args.q = q;
  args.out = out;
  return args;
}

void append_prompt(const td::Runtime& runtime, td_seq sequence, std::int32_t layer, const tools::TraceMeta& meta,
                   const tools::TraceLayer& trace, Progress& progress) {
  constexpr std::int64_t kChunk = 1024;  // a fraction of a second, so that progress moves and Ctrl-C is heard
  const auto& q = trace.q_tail;
  const std::int64_t first_query = meta.tokens - (q.data == nullptr ? 0 : q.shape[1]);
  for (std::int64_t first = 0; first < meta.tokens;) {
    const bool has_q = first >= first_query;
    const auto tokens = std::min(kChunk, (has_q ? meta.tokens : first_query) - first);
    auto args = append_args(layer, {&sequence, 1}, &tokens, tokens_of(trace.k, first, tokens),
                            tokens_of(trace.v, first, tokens));
    if (has_q) args.q = tokens_of(q, first - first_query, tokens);
    runtime.append(args);
    progress.advance(tokens);
    first += tokens;
  }
}

}  // namespace tandem::cli
