#include "tools/tandem/recording.h"

#include <algorithm>

#include "tools/tandem/interrupt.h"
#include "tools/tandem/statistics.h"
#include "tools/tandem/trace_calls.h"

namespace tandem::cli {
namespace {

/// A runtime for `tokens` tokens, all of them in the window as they are.
td::Runtime exact_runtime(td_config config, std::int64_t tokens) {
  config.local_tokens = static_cast<std::int32_t>(tokens);
  config.max_tokens = tokens;
  config.window_dtype = config.host_dtype = TD_F32;
  return td::Runtime(config);
}

void note(const llama::AttentionRecord& record, const td_config& shape, bool is_step, LayerRecording& layer) {
  const std::int64_t q_size = record.tokens * shape.num_q_heads * shape.head_dim_k;
  const std::int64_t kv_size = record.tokens * shape.num_kv_heads * shape.head_dim_k;
  layer.q.insert(layer.q.end(), record.q, record.q + q_size);
  layer.k.insert(layer.k.end(), record.k, record.k + kv_size);
  layer.v.insert(layer.v.end(), record.v, record.v + kv_size);
  if (is_step) layer.out.insert(layer.out.end(), record.out, record.out + q_size);
}

/// Tokens [first, first + count) of k, v or q, where they lie.
td_tensor rows_of(const std::vector<float>& values, std::int64_t first, std::int64_t count, std::int32_t heads,
                  std::int32_t dim) {
  return td::tensor(values.data() + first * heads * dim, TD_F32, count, heads, dim);
}

void append_tokens(const td::Runtime& runtime, td_seq sequence, const Recording& recording, std::int32_t layer,
                   std::int64_t first, std::int64_t count) {
  const auto& [q, k, v, out] = recording.layers[static_cast<std::size_t>(layer)];
  const auto& shape = recording.shape;
  auto args = append_args(layer, {&sequence, 1}, &count, rows_of(k, first, count, shape.num_kv_heads, shape.head_dim_k),
                          rows_of(v, first, count, shape.num_kv_heads, shape.head_dim_k));
  args.q = rows_of(q, first, count, shape.num_q_heads, shape.head_dim_k);
  runtime.append(args);
}

void attend_tokens(const td::Runtime& runtime, td_seq sequence, const Recording& recording, std::int32_t layer,
                   std::int64_t first, std::int64_t count, int parts, std::vector<float>& out) {
  const auto& shape = recording.shape;
  out.resize(static_cast<std::size_t>(count * shape.num_q_heads * shape.head_dim_k));
  auto args = attend_args(
      layer, {&sequence, 1}, &count,
      rows_of(recording.layers[static_cast<std::size_t>(layer)].q, first, count, shape.num_q_heads, shape.head_dim_k),
      td::tensor(out.data(), TD_F32, count, shape.num_q_heads, shape.head_dim_k));
  args.parts = parts;
  runtime.attend(args);
}

}  // namespace

DenseReading read_densely(llama::Llama& model, const td_config& shape, const std::vector<std::int32_t>& context,
                          const std::vector<std::int32_t>& steps, Progress& progress) {
  const auto tokens = static_cast<std::int64_t>(context.size() + steps.size());
  const auto runtime = exact_runtime(shape, tokens);
  const td::Sequence sequence(runtime);
  DenseReading reading;
  auto& recording = reading.recording;
  recording.shape = shape;
  recording.context_tokens = std::ssize(context);
  recording.steps = std::ssize(steps);
  recording.layers.resize(static_cast<std::size_t>(shape.num_layers));
  llama::AttentionUse use{.runtime = runtime, .sequence = sequence, .recorder = {}, .progress = {}};
  use.recorder = [&](const llama::AttentionRecord& record) {
    note(record, shape, record.first_position >= recording.context_tokens,
         recording.layers[static_cast<std::size_t>(record.layer)]);
  };
  std::int64_t done = 0;
  use.progress = [&](std::int64_t now) { progress.advance(now - std::exchange(done, now)); };
  reading.logits.push_back(model.forward(use, context));
  use.progress = {};
  for (const auto token : steps) {
    check_interrupt();
    reading.logits.push_back(model.forward(use, {token}));
  }
  return reading;
}

void append_context(const td::Runtime& runtime, const td::Sequence& sequence, const Recording& recording,
                    std::int64_t chunk_tokens, bool attends) {
  std::vector<float> discarded;
  for (std::int64_t first = 0; first < recording.context_tokens; first += chunk_tokens) {
    check_interrupt();
    const auto count = std::min(chunk_tokens, recording.context_tokens - first);
    for (std::int32_t layer = 0; layer < recording.shape.num_layers; ++layer) {
      append_tokens(runtime, sequence.id(), recording, layer, first, count);
      if (attends) attend_tokens(runtime, sequence.id(), recording, layer, first, count, TD_PART_STATIC, discarded);
    }
  }
}

std::vector<double> step_errors(const td::Runtime& runtime, const td::Sequence& sequence, const Recording& recording) {
  const auto& shape = recording.shape;
  const std::int64_t dim = shape.head_dim_k;
  std::vector<double> errors;
  std::vector<float> out;
  for (std::int64_t step = 0; step < recording.steps; ++step) {
    check_interrupt();
    for (std::int32_t layer = 0; layer < shape.num_layers; ++layer) {
      append_tokens(runtime, sequence.id(), recording, layer, recording.context_tokens + step, 1);
      attend_tokens(runtime, sequence.id(), recording, layer, recording.context_tokens + step, 1, TD_PART_ALL, out);
      const auto& dense = recording.layers[static_cast<std::size_t>(layer)].out;
      for (std::int64_t head = 0; head < shape.num_q_heads; ++head) {
        const auto* row = dense.data() + (step * shape.num_q_heads + head) * dim;
        const std::vector<double> exact(row, row + dim);
        errors.push_back(relative_error(out.data() + head * dim, exact.data(), dim));
      }
    }
  }
  return errors;
}

}  // namespace tandem::cli
