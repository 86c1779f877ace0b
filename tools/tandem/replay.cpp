#include "tools/tandem/replay.h"

#include <algorithm>

namespace tandem::cli {
namespace {

/// Tokens [first, first + tokens) of `tensor` (heads, tokens, dim), where they lie.
td_tensor tokens_of(const tools::Tensor& tensor, std::int64_t first, std::int64_t tokens) {
  const auto row_bytes = tensor.shape[2] * static_cast<std::int64_t>(bytes_of(tensor.dtype));
  auto* data = const_cast<std::byte*>(tensor.data) + first * row_bytes;  // td_tensor has no const; input is not written
  return {data,
          {tokens, tensor.shape[0], tensor.shape[2]},
          {row_bytes, tensor.shape[1] * row_bytes},
          static_cast<std::int32_t>(tensor.dtype),
          0};
}

}  // namespace

td_stats Replay::append(const td::Sequence& sequence, std::size_t layer, const tools::Tensor& k, const tools::Tensor& v,
                        std::int64_t first, std::int64_t tokens, const td_tensor& q) const {
  const td_seq id = sequence.id();
  auto stats = td::make<td_stats>();
  auto args = td::make<td_append_args>();
  args.layer = static_cast<std::int32_t>(layer);
  args.num_seqs = 1;
  args.seqs = &id;
  args.num_tokens = &tokens;
  args.k = tokens_of(k, first, tokens);
  args.v = tokens_of(v, first, tokens);
  args.q = q;
  args.stats = &stats;
  runtime_.append(args);
  return stats;
}

void Replay::add_copy(Progress& progress) {
  constexpr std::int64_t kChunk = 1024;  // a fraction of a second, so that progress moves and Ctrl-C is heard
  Copy copy{td::Sequence(runtime_)};
  for (std::size_t layer = 0; layer < trace_.layers.size(); ++layer) {
    const auto& tensors = trace_.layers[layer];
    const auto& q = tensors.q_tail;
    const std::int64_t first_query = trace_.meta.tokens - (q.data == nullptr ? 0 : q.shape[1]);
    for (std::int64_t first = 0; first < trace_.meta.tokens;) {
      const bool has_q = first >= first_query;
      const auto tokens = std::min(kChunk, (has_q ? trace_.meta.tokens : first_query) - first);
      append(copy.sequence, layer, tensors.k, tensors.v, first, tokens,
             has_q ? tokens_of(q, first - first_query, tokens) : td_tensor{});
      progress.advance(tokens);
      first += tokens;
    }
    LayerStep ignored;
    attend(copy.sequence, layer, 0, ignored);  // the first query makes the runtime index the prompt
  }
  copies_.push_back(std::move(copy));
}

td_seq_info Replay::info(int copy, std::size_t layer) const {
  return copies_[static_cast<std::size_t>(copy)].sequence.info(static_cast<std::int32_t>(layer));
}

std::int64_t Replay::bytes_per_copy() const {
  const auto& meta = trace_.meta;
  const std::int64_t window_row = std::int64_t{meta.num_kv_heads} * (meta.head_dim_k + meta.head_dim_v) *
                                  static_cast<std::int64_t>(bytes_of(window_dtype_));
  std::int64_t bytes = 0;
  for (std::size_t layer = 0; layer < trace_.layers.size(); ++layer) {
    const auto figures = info(0, layer);
    bytes += figures.kv_bytes + figures.index_bytes + figures.window_rows * window_row;
  }
  return bytes;
}

void Replay::catch_up(int copy, std::int64_t step) {
  auto& [sequence, steps_done] = copies_[static_cast<std::size_t>(copy)];
  if (steps_done < step) {
    for (std::size_t layer = 0; layer < trace_.layers.size(); ++layer) {
      const auto& tensors = trace_.layers[layer];
      append(sequence, layer, tensors.dec_k, tensors.dec_v, steps_done, step - steps_done);
    }
  }
  steps_done = step + 1;  // the step itself comes next
}

LayerStep Replay::step(int copy, std::size_t layer, std::int64_t step) {
  const auto& tensors = trace_.layers[layer];
  const auto& sequence = copies_[static_cast<std::size_t>(copy)].sequence;
  LayerStep result;
  result.append = append(sequence, layer, tensors.dec_k, tensors.dec_v, step, 1);
  result.attend = attend(sequence, layer, step, result);
  return result;
}

td_stats Replay::attend(const td::Sequence& sequence, std::size_t layer, std::int64_t step, LayerStep& result) const {
  const auto& meta = trace_.meta;
  result.out.resize(static_cast<std::size_t>(meta.num_q_heads) * static_cast<std::size_t>(meta.head_dim_v));
  result.lse.resize(static_cast<std::size_t>(meta.num_q_heads));
  result.error_estimates.resize(result.lse.size());
  result.certified.resize(result.lse.size());
  const td_seq id = sequence.id();
  const std::int64_t one_query = 1;
  auto stats = td::make<td_stats>();
  auto args = td::make<td_attend_args>();
  args.layer = static_cast<std::int32_t>(layer);
  args.parts = TD_PART_ALL;
  args.num_seqs = 1;
  args.seqs = &id;
  args.num_queries = &one_query;
  args.q = tokens_of(trace_.layers[layer].dec_q, step, 1);
  args.out = td::tensor(result.out.data(), TD_F32, 1, meta.num_q_heads, meta.head_dim_v);
  args.lse = result.lse.data();
  args.error = result.error_estimates.data();
  args.certified = result.certified.data();
  args.stats = &stats;
  runtime_.attend(args);
  return stats;
}

}  // namespace tandem::cli
