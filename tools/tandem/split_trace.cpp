#include "tools/tandem/split_trace.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "tools/tandem/command.h"
#include "tools/tandem/options.h"

namespace tandem::cli {
namespace {

constexpr std::int64_t kFewestTimed = 2;  // quantiles of one step would say nothing about its spread

[[noreturn]] void refuse(const std::string& folder, const std::string& has, const std::string& allowed) {
  throw UsageError(fmt::format("--trace: '{}' is not allowed: it has {}; allowed: {}", folder, has, allowed));
}

std::int32_t layer_of(const tools::TraceMeta& meta, std::int32_t wanted) {
  const auto& layers = meta.layers;
  if (wanted < 0) return layers[layers.size() / 2];
  if (std::find(layers.begin(), layers.end(), wanted) == layers.end())
    throw UsageError(not_allowed("--layer", std::to_string(wanted),
                                 fmt::format("a layer of the trace: {}", fmt::join(layers, ", "))));
  return wanted;
}

/// 0 where the trace's logits are scaled as td_config does it without being told.
float scale_of(const tools::TraceMeta& meta) {
  constexpr float kSame = 1e-5f;
  const float usual = 1 / std::sqrt(static_cast<float>(meta.head_dim_k));
  return std::abs(meta.scale - usual) <= kSame * usual ? 0 : meta.scale;
}

}  // namespace

std::shared_ptr<const tools::Trace> trace_to_split(const std::string& folder, std::int32_t wanted) {
  tools::TraceMeta meta = tools::load_trace_meta(folder);
  if (meta.head_dim_v != meta.head_dim_k)
    refuse(folder, fmt::format("head_dim_v {}", meta.head_dim_v), fmt::format("head_dim, {}", meta.head_dim_k));
  if (meta.steps <= kFewestTimed)
    refuse(folder, fmt::format("{} decode {}", meta.steps, meta.steps == 1 ? "step" : "steps"),
           fmt::format("at least {}, of which the first is not timed", kFewestTimed + 1));
  const std::int32_t layer = layer_of(meta, wanted);
  return std::make_shared<const tools::Trace>(tools::load_trace(folder, std::move(meta), {layer}));
}

SplitShape shape_of(const tools::TraceMeta& meta, std::int32_t num_layers) {
  return {num_layers, meta.num_q_heads, meta.num_kv_heads, meta.head_dim_k, scale_of(meta)};
}

void check_same_heads(const std::string& folder, const tools::Trace& trace, const SplitShape& model,
                      const std::string& name) {
  const auto& meta = trace.meta;
  const auto check = [&](const char* field, std::int32_t has, std::int32_t wanted) {
    if (has != wanted) refuse(folder, fmt::format("{} {}", field, has), fmt::format("{}, as {} has", wanted, name));
  };
  check("num_q_heads", meta.num_q_heads, model.num_q_heads);
  check("num_kv_heads", meta.num_kv_heads, model.num_kv_heads);
  check("head_dim", meta.head_dim_k, model.head_dim);
  const std::int32_t last = *std::max_element(meta.layers.begin(), meta.layers.end());
  if (last >= model.num_layers)
    refuse(folder, fmt::format("a layer {}", last), fmt::format("0 to {}, as {} has", model.num_layers - 1, name));
}

std::int64_t timed_steps(const tools::TraceMeta& meta, std::int64_t steps, bool asked) {
  if (asked && steps >= meta.steps)
    throw UsageError(not_allowed("--steps", std::to_string(steps),
                                 fmt::format("{} to {}: the trace has {} steps, of which the first is not timed",
                                             kFewestTimed, meta.steps - 1, meta.steps)));
  return std::min(steps, meta.steps - 1);
}

void check_queries(const std::string& folder, const tools::Trace& trace, const std::vector<Split>& splits) {
  if (trace.layers.front().q_tail.data != nullptr) return;
  for (const Split& split : splits)
    if (is_sketch(selector_of(split)))
      refuse(folder, "no queries of its prompt (q_tail)",
             fmt::format("a trace with some, for sketches are calibrated on them, or --selectors without '{}'",
                         split.selector));
}

}  // namespace tandem::cli
