#include "runtime/c_api_config.h"

#include "gpu/device_choice.h"
#include "runtime/base/error.h"
#include "runtime/c_api_structs.h"
#include "runtime/selector_params.h"
#include "runtime/window_settings.h"

namespace tandem {
namespace {

DType row_format_of(const char* name, std::int32_t value) {
  TANDEM_CHECK(value >= 0 && value < kNumHostDTypes, invalid_argument, name, " is ", value,
               "; allowed: 0 (f32), 1 (f16), 2 (bf16), 3 (int8), 4 (k8v4)");
  return static_cast<DType>(value);
}

bool switch_of(const char* name, std::int32_t value, bool by_default) {
  TANDEM_CHECK(value == 0 || value == TD_ON || value == TD_OFF, invalid_argument, name, " is ", value,
               "; allowed: 1 (on), -1 (off), or 0 for the default (", by_default ? "on" : "off", ")");
  return value == 0 ? by_default : value == TD_ON;
}

}  // namespace

DType dtype_of(const char* name, std::int32_t value) {
  TANDEM_CHECK(value >= 0 && value < kNumDTypes, invalid_argument, name, " is ", value,
               "; allowed: 0 (f32), 1 (f16), 2 (bf16)");
  return static_cast<DType>(value);
}

lsh::SelectorParams selector_of(const td_selector* given) { return params_of(read_struct("selector", given)); }

Config config_of(const td_config* given) {
  const td_config c = read_struct("config", given);
  TANDEM_CHECK(c.abi == TANDEM_ABI, unsupported, "config.abi is ", c.abi, "; this library has ABI ", TANDEM_ABI);
  Config config;
  config.shape =
      resolved({c.num_layers, c.num_q_heads, c.num_kv_heads, c.head_dim_k, c.head_dim_v, c.scale, c.softcap});
  config.window.sink_tokens = c.sink_tokens;
  config.window.local_tokens = c.local_tokens;
  config.window.dtype = dtype_of("window_dtype", c.window_dtype);
  if (c.window_codec != nullptr) {
    const td_codec codec = read_struct("window_codec", c.window_codec);
    config.window.codec = codec_of(codec);
    if (config.window.codec.calibration != nullptr) config.calibration_file = codec.calibration;
  }
  if (c.window_policy != nullptr) set_policy(read_struct("window_policy", c.window_policy), config.window);
  if (c.residual_tokens != 0) config.window.residual_tokens = c.residual_tokens;
  config.rope = {c.rope_theta, c.rope_dims, c.rope_interleaved != 0};
  config.host_tier = switch_of("host_tier", c.host_tier, true);
  config.host_dtype = row_format_of("host_dtype", c.host_dtype);
  if (c.selector != nullptr) config.selector = selector_of(c.selector);
  if (c.profile != nullptr) config.profile = profile_from_json(c.profile);
  config.never_slower = switch_of("never_slower", c.never_slower, true);
  config.auto_split = switch_of("auto_split", c.auto_split, false);
  config.num_workers = c.num_threads;
  if (c.max_tokens != 0) config.max_tokens = c.max_tokens;
  config.host_memory_bytes = c.host_memory_bytes;
  if (c.device != nullptr) config.device = c.device;
  config.graphs = switch_of("graphs", c.graphs, false);
  if (c.hand_off != nullptr) config.hand_off = gpu::parse_hand_off(c.hand_off);
  if (c.device_timeout_ms != 0) config.device_timeout_ms = c.device_timeout_ms;
  if (c.isa != nullptr) config.isa = c.isa;
  return config;
}

}  // namespace tandem
