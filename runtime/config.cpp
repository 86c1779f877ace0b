#include "runtime/config.h"

#include "gpu/device_choice.h"
#include "runtime/base/error.h"

namespace tandem {

void validate(const Config& config) {
  validate(config.shape);
  cpu::validate(config.rope, config.shape);
  gpu::validate(config.window, config.shape, config.rope);
  TANDEM_CHECK(
      !config.window.compact_sinks || !config.host_tier, invalid_argument,
      "compact_sinks is set and host_tier is on; positions within the window are only consistent where nothing "
      "else is attended to: switch host_tier off");
  lsh::validate(config.selector);
  lsh::validate(config.profile);
  TANDEM_CHECK(!config.auto_split || config.never_slower, invalid_argument,
               "auto_split is on and never_slower is off; a selector that always selects leaves nothing to decide: "
               "switch never_slower on, or auto_split off");
  TANDEM_CHECK(config.num_workers >= 0 && config.num_workers <= 1024, invalid_argument, "num_threads is ",
               config.num_workers, "; allowed: 1 to 1024, or 0 for one per usable core");
  TANDEM_CHECK(config.max_tokens >= 1 && config.max_tokens <= kMaxTokens, invalid_argument, "max_tokens is ",
               config.max_tokens, "; allowed: 1 to ", kMaxTokens);
  TANDEM_CHECK(config.host_memory_bytes >= 0, invalid_argument, "host_memory_bytes is ", config.host_memory_bytes,
               "; it must be positive, or 0 for the default");
  gpu::validate_device(config.device);
  TANDEM_CHECK(config.device_timeout_ms >= 1, invalid_argument, "device_timeout_ms is ", config.device_timeout_ms,
               "; it must be positive, or 0 for the default");
}

}  // namespace tandem
