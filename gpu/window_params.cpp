#include "gpu/window_params.h"

#include "cpu/row_layout.h"
#include "runtime/base/error.h"

namespace tandem::gpu {
namespace {

constexpr std::int32_t kMaxWindowTokens = 1 << 24;

void check_residual(const WindowParams& params) {
  const std::int32_t group = params.codec.kind == cpu::CodecKind::kivi ? params.codec.group : 32;
  TANDEM_CHECK(params.residual_tokens >= group && params.residual_tokens % group == 0, invalid_argument,
               "residual_tokens is ", params.residual_tokens, "; with the codec ", cpu::to_string(params.codec.kind),
               " it must be a multiple of ", group, ", the tokens of a group, and no less");
  TANDEM_CHECK(params.residual_tokens < params.local_tokens, invalid_argument, "residual_tokens is ",
               params.residual_tokens, "; it must be less than local_tokens (", params.local_tokens,
               "), or nothing is left to compress");
}

/// What a policy that works on tokens one by one cannot be combined with.
void check_policy(const WindowParams& params, const cpu::RopeParams& rope) {
  validate(params.policy);
  const bool keeps = keep_rule(params.policy).scores != ScoreSource::none;
  TANDEM_CHECK(!keeps || (params.page_tokens >= 1 && params.page_tokens <= cpu::kPageRows), invalid_argument,
               "page_tokens is ", params.page_tokens, "; allowed: 1 to ", cpu::kPageRows);
  TANDEM_CHECK(!keeps || params.codec.kind == cpu::CodecKind::none, unsupported, "window_codec is ",
               cpu::to_string(params.codec.kind),
               "; a window_policy that keeps single tokens works on rows: window_dtype f32, f16 or bf16 and no codec");
  TANDEM_CHECK(!params.compact_sinks || rope.known(), invalid_argument,
               "compact_sinks needs rope_theta, which is 0: queries are turned back for the sinks");
  TANDEM_CHECK(!params.compact_sinks || (!keeps && !params.merge), invalid_argument,
               "compact_sinks is set; only the policy 'latest' has it");
  if (!params.merge) return;
  validate(*params.merge);
  TANDEM_CHECK(!keeps, invalid_argument, "window_policy is dmc; it keeps no single tokens");
  TANDEM_CHECK(rope.known(), invalid_argument,
               "window_policy dmc needs rope_theta, which is 0: keys are averaged before RoPE and rotated by Tandem");
  TANDEM_CHECK(cpu::key_space_of(params.codec.kind) == cpu::KeySpace::post_rope, unsupported, "window_codec is ",
               cpu::to_string(params.codec.kind),
               ", which turns keys back by their positions; entries of the window_policy dmc lie at others");
}

}  // namespace

void validate(const WindowParams& params, const AttentionShape& shape, const cpu::RopeParams& rope) {
  TANDEM_CHECK(params.sink_tokens >= 0 && params.sink_tokens <= kMaxWindowTokens, invalid_argument, "sink_tokens is ",
               params.sink_tokens, "; allowed: 0 to ", kMaxWindowTokens);
  TANDEM_CHECK(params.local_tokens >= 1 && params.local_tokens <= kMaxWindowTokens, invalid_argument,
               "local_tokens is ", params.local_tokens, "; allowed: 1 to ", kMaxWindowTokens);
  TANDEM_CHECK(!is_quantized(params.dtype), invalid_argument, "window_dtype is ", to_string(params.dtype),
               ", which only rows of the host tier can be; allowed: f32, f16, bf16, and a codec beside them");
  check_policy(params, rope);
  if (params.codec.kind == cpu::CodecKind::none) return;
  cpu::validate(params.codec, shape, rope);
  check_residual(params);
}

}  // namespace tandem::gpu
