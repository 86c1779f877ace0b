#include "tools/tandem/replay.h"

#include "tools/tandem/trace_calls.h"

namespace tandem::cli {

td_stats Replay::append(const td::Sequence& sequence, std::size_t layer, std::int64_t first,
                        std::int64_t tokens) const {
  const auto& trace = trace_.layers[layer];
  const td_seq id = sequence.id();
  auto stats = td::make<td_stats>();
  auto args = append_args(static_cast<std::int32_t>(layer), {&id, 1}, &tokens, tokens_of(trace.dec_k, first, tokens),
                          tokens_of(trace.dec_v, first, tokens));
  args.stats = &stats;
  runtime_.append(args);
  return stats;
}

void Replay::add_copy(Progress& progress) {
  Copy copy{td::Sequence(runtime_)};
  for (std::size_t layer = 0; layer < trace_.layers.size(); ++layer) {
    append_prompt(runtime_, copy.sequence.id(), static_cast<std::int32_t>(layer), trace_.meta, trace_.layers[layer],
                  progress);
    LayerStep ignored;
    attend(copy.sequence, layer, 0, ignored);  // the first query makes the runtime index the prompt
  }
  copies_.push_back(std::move(copy));
}

td_seq_info Replay::info(int copy, std::size_t layer) const {
  return copies_[static_cast<std::size_t>(copy)].sequence.info(static_cast<std::int32_t>(layer));
}

std::int64_t Replay::bytes_per_copy() const {
  std::int64_t bytes = 0;
  for (std::size_t layer = 0; layer < trace_.layers.size(); ++layer) {
    const auto figures = info(0, layer);
    bytes += figures.kv_bytes + figures.index_bytes + figures.window_bytes;
  }
  return bytes;
}

void Replay::catch_up(int copy, std::int64_t step) {
  auto& [sequence, steps_done] = copies_[static_cast<std::size_t>(copy)];
  if (steps_done < step) {
    for (std::size_t layer = 0; layer < trace_.layers.size(); ++layer)
      append(sequence, layer, steps_done, step - steps_done);
  }
  steps_done = step + 1;  // the step itself comes next
}

LayerStep Replay::step(int copy, std::size_t layer, std::int64_t step) {
  const auto& sequence = copies_[static_cast<std::size_t>(copy)].sequence;
  LayerStep result;
  result.append = append(sequence, layer, step, 1);
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
  auto args = attend_args(static_cast<std::int32_t>(layer), {&id, 1}, &one_query,
                          tokens_of(trace_.layers[layer].dec_q, step, 1),
                          td::tensor(result.out.data(), TD_F32, 1, meta.num_q_heads, meta.head_dim_v));
  args.lse = result.lse.data();
  args.error = result.error_estimates.data();
  args.certified = result.certified.data();
  args.stats = &stats;
  runtime_.attend(args);
  return stats;
}

}  // namespace tandem::cli
