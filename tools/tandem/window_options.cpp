#include "tools/tandem/window_options.h"

#include <algorithm>

#include <fmt/format.h>

#include "tools/tandem/command.h"
#include "tools/tandem/validators.h"

namespace tandem::cli {
namespace {

constexpr std::int64_t kChunk = 512;
constexpr std::int64_t kScoredChunk = 64;  // a window holds up to a page more than it must

[[noreturn]] void refuse_with(const char* option, const std::string& chosen, const std::string& allowed) {
  throw UsageError(fmt::format("{}: not allowed with {}; allowed with: {}", option, chosen, allowed));
}

}  // namespace

void add_window(CLI::App& app, WindowOptions& options, unsigned which) {
  const std::string group = "Compressed window";
  app.add_option("--window-codec", options.codec,
                 fmt::format("codec of all local tokens but the latest: {} [none]", codec_forms()))
      ->group(group);
  app.add_option("--residual", options.residual, "latest tokens that no codec compresses; 0: 128 [0]")
      ->check(number_in(0, 1 << 24, "a whole number from 0 to 2^24"))
      ->group(group);
  app.add_option("--nuq-calibration", options.calibration, "nuq: file that `tandem calibrate` wrote for this model")
      ->group(group);
  app.add_option("--device", options.device, "what holds the window: host, or cuda:N, a GPU [host]")->group(group);
  app.add_option("--hand-off", options.hand_off,
                 "how the host learns that a GPU is done: flag (it writes to host memory), host_call, event [flag]")
      ->check(one_of({"flag", "host_call", "event"}))
      ->group(group);
  app.add_flag("--graphs", options.graphs, "replay what a step launches on a GPU as a CUDA graph [off]")->group(group);
  if ((which & kPolicy) != 0)
    app.add_option("--window-policy", options.policy, fmt::format("what stays in it: {} [latest]", policy_forms()))
        ->group(group);
  if ((which & kHostTier) != 0)
    app.add_option("--host-tier", options.host_tier, "on or off; off: what leaves the window is lost [on]")
        ->check(one_of({"on", "off"}))
        ->group(group);
  if ((which & kRopeTheta) != 0)
    app.add_option("--rope-theta", options.rope_theta, "base of the RoPE in q and k; 0: unknown [0]")
        ->check(number_in(0.0, 1e12, "a number from 0 to 10^12"))
        ->group(group);
}

std::int64_t WindowChoice::chunk_tokens(std::int32_t local_tokens) const noexcept {
  // What is merged must be seen before it can leave the tokens that no codec compresses.
  if (policy.policy.kind == TD_POLICY_DMC && codec.codec.kind != TD_CODEC_NONE)
    local_tokens = residual != 0 ? residual : 128;
  const bool small = !host_tier || policy.scores_attention();
  return std::min<std::int64_t>(small ? kScoredChunk : kChunk, local_tokens);
}

WindowChoice choose_window(const WindowOptions& options) {
  WindowChoice choice;
  choice.codec = parse_codec("--window-codec", options.codec, options.calibration);
  const auto kind = choice.codec.codec.kind;
  if (kind == TD_CODEC_NONE && options.residual != 0)
    refuse_with("--residual", "--window-codec " + options.codec, "codecs other than none");
  if (kind != TD_CODEC_NUQ && !options.calibration.empty())
    refuse_with("--nuq-calibration", "--window-codec " + options.codec, "nuq4, nuq3, nuq2");
  if (kind == TD_CODEC_NUQ && choice.codec.calibration.empty())
    throw UsageError(fmt::format("--window-codec: '{}' is not allowed without --nuq-calibration", options.codec));
  choice.residual = options.residual;
  choice.policy = parse_policy("--window-policy", options.policy);
  if (choice.policy.policy.kind == TD_POLICY_DMC)
    throw UsageError(
        "--window-policy: 'dmc' is not allowed here: keys come after RoPE; allowed: what works on those, "
        "latest, streaming, h2o:K, threshold:K,T");
  if (choice.policy.without_host && options.host_tier == "on")
    refuse_with("--host-tier on", "--window-policy " + options.policy, "latest, h2o:K, threshold:K,T");
  choice.host_tier = !choice.policy.without_host && options.host_tier != "off";
  choice.rope_theta = options.rope_theta;
  choice.device = options.device;
  choice.hand_off = options.hand_off;
  choice.graphs = options.graphs;
  return choice;
}

void apply(WindowChoice& choice, td_config& config) {
  choice.codec.codec = choice.codec.get();
  if (choice.codec.codec.kind != TD_CODEC_NONE) config.window_codec = &choice.codec.codec;
  config.residual_tokens = choice.residual;
  config.window_policy = &choice.policy.policy;
  config.host_tier = choice.host_tier ? TD_ON : TD_OFF;
  if (choice.rope_theta > 0) config.rope_theta = choice.rope_theta;
  config.device = choice.device.c_str();
  config.hand_off = choice.hand_off.c_str();
  config.graphs = choice.graphs ? TD_ON : TD_OFF;
}

void refuse_merging(const std::string& model, const td_config& attention) {
  if (attention.window_policy == nullptr) return;
  throw UsageError(
      fmt::format("--model: '{}' is not allowed: it merges tokens (\"dmc\" in its config.json); allowed: models that "
                  "keep each of them; for this one, tandem eval window has --dmc-model",
                  model));
}

void refuse_host_options(const WindowChoice& choice, const TierOptions& tiers, const std::vector<std::string>& given) {
  if (choice.host_tier) return;
  const char* option = !given.empty() ? given.front().c_str() : !tiers.host_dtype.empty() ? "--host-dtype" : nullptr;
  if (option != nullptr) throw UsageError(fmt::format("{}: not allowed without a host tier", option));
}

void add_to_json(const WindowChoice& choice, Json& tiers) {
  tiers["window_codec"] = codec_to_json<Json>(choice.codec.get());
  if (choice.residual > 0) tiers["residual_tokens"] = choice.residual;
  tiers["window_policy"] = to_json(choice.policy.policy);
  tiers["host_tier"] = choice.host_tier;
  tiers["device"] = choice.device;
}

}  // namespace tandem::cli
