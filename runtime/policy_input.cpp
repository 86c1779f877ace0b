#include "runtime/policy_input.h"

#include <array>
#include <cmath>
#include <span>
#include <variant>

#include "runtime/base/error.h"

namespace tandem {
namespace {

/// As in td_window_policy.
const char* name_of(const gpu::WindowParams& window) {
  if (window.merge) return "dmc";
  if (std::holds_alternative<gpu::HeavyHitters>(window.policy)) return "heavy_hitters";
  const gpu::ScoreSource scores = keep_rule(window.policy).scores;
  if (scores == gpu::ScoreSource::none) return "latest";
  return scores == gpu::ScoreSource::external ? "threshold with given scores" : "threshold with scores of attention";
}

/// Without a token there is nothing to give.
void check_given(const char* field, const float* values, bool needed, std::int64_t tokens, const char* policy) {
  TANDEM_CHECK((values != nullptr) == needed || (needed && tokens == 0), invalid_argument, field, " is ",
               values == nullptr ? "NULL" : "given", "; the window_policy ", policy,
               needed ? " needs it" : " takes none");
}

void check_finite(const char* field, const float* values, std::int64_t tokens, std::int64_t heads) {
  if (values == nullptr) return;
  for (std::int64_t i = 0; i < tokens * heads; ++i) {
    TANDEM_CHECK(std::isfinite(values[i]), invalid_argument, field, " is ", values[i], " for token ", i / heads,
                 ", KV head ", i % heads, "; every value must be finite");
  }
}

/// Queries must see a token, or the state of its entry, before it can leave the recents.
void check_chunk(const AppendRequest& request, const Config& config) {
  const gpu::WindowParams& window = config.window;
  const std::int64_t most = window.codec.kind == cpu::CodecKind::none ? window.local_tokens : window.residual_tokens;
  for (std::size_t i = 0; i < request.num_tokens.size(); ++i) {
    TANDEM_CHECK(request.num_tokens[i] <= most, invalid_argument, "num_tokens[", i, "] is ", request.num_tokens[i],
                 "; this window_policy sees new tokens before they leave the latest ones: allowed are up to ", most,
                 " at a time (", window.codec.kind == cpu::CodecKind::none ? "local_tokens" : "residual_tokens", ")");
  }
}

float last_element(const TensorView& tensor, std::int64_t token, std::int64_t head) {
  const auto width = static_cast<std::int64_t>(bytes_of(tensor.dtype));
  float value = 0.f;
  load_f32(tensor.dtype, tensor.row(token, head) + (tensor.dim - 1) * width, &value, 1);
  return value;
}

}  // namespace

bool takes_neurons(const Config& config) noexcept {
  return config.window.merge && config.window.merge->source == gpu::DmcSource::last_neuron;
}

void check_policy_input(const AppendRequest& request, const Config& config) {
  const gpu::WindowParams& window = config.window;
  const gpu::ScoreSource scores = keep_rule(window.policy).scores;
  const bool given = window.merge && window.merge->source == gpu::DmcSource::external;
  const char* name = name_of(window);
  const std::int64_t tokens = request.kv.k.tokens;
  check_given("keep", request.keep, scores == gpu::ScoreSource::external, tokens, name);
  check_given("merge", request.merge, given, tokens, name);
  check_given("importance", request.importance, given, tokens, name);
  TANDEM_CHECK(!takes_neurons(config) || request.q || tokens == 0, invalid_argument,
               "q is missing; the window_policy dmc takes the weight of a token from the last neuron of its queries");
  check_finite("keep", request.keep, tokens, config.shape.num_kv_heads);
  if (window.merge || scores == gpu::ScoreSource::attention) check_chunk(request, config);
}

void decide(const AppendRequest& request, const Config& config, std::vector<gpu::DmcDecision>& decisions) {
  decisions.clear();
  if (!config.window.merge) return;
  const std::int64_t heads = config.shape.num_kv_heads, group = config.shape.group_size();
  const std::int64_t tokens = request.kv.k.tokens;
  check_finite("merge", request.merge, tokens, heads);
  check_finite("importance", request.importance, tokens, heads);
  std::array<float, kMaxGroupSize> memory;
  const std::span omegas(memory.data(), static_cast<std::size_t>(takes_neurons(config) ? group : 1));
  for (std::int64_t head = 0; head < heads; ++head) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      float alpha = 0.f;
      if (takes_neurons(config)) {
        alpha = last_element(request.kv.k, t, head);
        for (std::int64_t h = 0; h < group; ++h)
          omegas[static_cast<std::size_t>(h)] = last_element(*request.q, t, head * group + h);
      } else {
        alpha = request.merge[t * heads + head];
        omegas.front() = request.importance[t * heads + head];
      }
      decisions.push_back(gpu::decide(*config.window.merge, alpha, omegas));
    }
  }
}

}  // namespace tandem
