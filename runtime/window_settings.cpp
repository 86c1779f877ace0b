#include "runtime/window_settings.h"

#include <variant>

#include "runtime/base/error.h"
#include "runtime/nuq_file.h"

namespace tandem {
namespace {

void check_source(const char* field, std::int32_t value, const char* allowed) {
  TANDEM_CHECK(value == 0 || value == 1, invalid_argument, "window_policy.", field, " is ", value,
               "; allowed: ", allowed);
}

}  // namespace

cpu::CodecParams codec_of(const td_codec& codec) {
  TANDEM_CHECK(codec.kind >= 0 && codec.kind < cpu::kNumCodecKinds, invalid_argument, "window_codec.kind is ",
               codec.kind, "; allowed: 0 (none), 1 (int8), 2 (fp8), 3 (kivi), 4 (qjl), 5 (nuq)");
  TANDEM_CHECK(codec.kind != TD_CODEC_QJL || codec.projection == TD_PROJECTION_ORTHOGONAL ||
                   codec.projection == TD_PROJECTION_GAUSSIAN,
               invalid_argument, "window_codec.projection is ", codec.projection,
               "; allowed: 0 (orthogonal), 1 (gaussian)");
  cpu::CodecParams params;
  params.kind = static_cast<cpu::CodecKind>(codec.kind);
  if (codec.bits != 0) params.bits = codec.bits;
  if (codec.group != 0) params.group = codec.group;
  if (codec.sketch_bits != 0) params.sketch_bits = codec.sketch_bits;
  params.outlier_bits = codec.outlier_bits;
  if (codec.outliers != 0) params.outliers = codec.outliers == -1 ? 0 : codec.outliers;
  params.orthogonal = codec.projection == TD_PROJECTION_ORTHOGONAL;
  if (codec.seed != 0) params.seed = codec.seed;
  if (params.kind == cpu::CodecKind::nuq && codec.calibration != nullptr)
    params.calibration = read_nuq_file(codec.calibration);
  return params;
}

td_codec to_td_codec(const cpu::CodecParams& params) {
  td_codec codec;
  TD_INIT(codec);
  codec.kind = static_cast<std::int32_t>(params.kind);
  codec.bits = params.bits;
  codec.group = params.group;
  codec.sketch_bits = params.sketch_bits;
  codec.outlier_bits = params.outlier_bits;
  codec.outliers = params.outliers == 0 ? -1 : params.outliers;
  codec.projection = params.orthogonal ? TD_PROJECTION_ORTHOGONAL : TD_PROJECTION_GAUSSIAN;
  codec.seed = params.seed;
  return codec;
}

void set_policy(const td_window_policy& policy, gpu::WindowParams& window) {
  if (policy.page_tokens != 0) window.page_tokens = policy.page_tokens;
  switch (policy.kind) {
    case TD_POLICY_LATEST:
      window.compact_sinks = policy.compact_sinks != 0;
      return;
    case TD_POLICY_HEAVY_HITTERS:
      window.policy = gpu::HeavyHitters{policy.kept_tokens};
      return;
    case TD_POLICY_THRESHOLD:
      check_source("scores", policy.scores, "0 (attention), 1 (given)");
      window.policy =
          gpu::Threshold{static_cast<float>(policy.threshold), policy.kept_tokens,
                         policy.scores == TD_SCORES_GIVEN ? gpu::ScoreSource::external : gpu::ScoreSource::attention};
      return;
    case TD_POLICY_DMC:
      check_source("decisions", policy.decisions, "0 (given), 1 (last neuron)");
      window.merge.emplace();
      window.merge->source =
          policy.decisions == TD_DECISIONS_GIVEN ? gpu::DmcSource::external : gpu::DmcSource::last_neuron;
      if (policy.merge_window != 0) window.merge->window = policy.merge_window;
      window.common_length = policy.common_length != 0;
      return;
    default:
      fail(ErrorCode::invalid_argument, "window_policy.kind is ", policy.kind,
           "; allowed: 0 (latest), 1 (heavy hitters), 2 (threshold), 3 (dmc)");
  }
}

td_window_policy to_td_window_policy(const gpu::WindowParams& window) {
  td_window_policy policy;
  TD_INIT(policy);
  policy.page_tokens = window.page_tokens;
  policy.compact_sinks = window.compact_sinks ? 1 : 0;
  if (const auto* hitters = std::get_if<gpu::HeavyHitters>(&window.policy)) {
    policy.kind = TD_POLICY_HEAVY_HITTERS;
    policy.kept_tokens = hitters->kept_tokens;
  } else if (const auto* threshold = std::get_if<gpu::Threshold>(&window.policy)) {
    policy.kind = TD_POLICY_THRESHOLD;
    policy.kept_tokens = threshold->max_kept;
    policy.threshold = threshold->threshold;
    policy.scores = threshold->scores == gpu::ScoreSource::external ? TD_SCORES_GIVEN : TD_SCORES_ATTENTION;
  } else if (window.merge) {
    policy.kind = TD_POLICY_DMC;
    policy.decisions = window.merge->source == gpu::DmcSource::external ? TD_DECISIONS_GIVEN : TD_DECISIONS_LAST_NEURON;
    policy.merge_window = window.merge->window;
    policy.common_length = window.common_length ? 1 : 0;
  }
  return policy;
}

}  // namespace tandem
