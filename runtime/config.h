#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "gpu/window_cache.h"
#include "lsh/cost_profile.h"
#include "lsh/selector.h"
#include "runtime/base/shape.h"

namespace tandem {

/// Longest sequence: store rows are 32-bit ids.
inline constexpr std::int64_t kMaxTokens = std::numeric_limits<std::int32_t>::max();

/// Everything that a Runtime is made of. The defaults are those of td_config.
struct Config {
  AttentionShape shape;
  gpu::WindowParams window;
  std::string calibration_file;  ///< where the codec's calibration was read from
  cpu::RopeParams rope;          ///< how the engine rotates q and k; needed by what works on keys before that
  bool host_tier = true;         ///< off: what leaves the window is lost
  DType host_dtype = DType::f32;
  lsh::SelectorParams selector = lsh::SelectAllParams{};  ///< of new sequences
  lsh::CostProfile profile;                               ///< decides, with never_slower, when a step selects
  bool never_slower = true;  ///< attend to every visible row where the profile says that selecting costs more
  bool auto_split = false;   ///< correct the profile by what steps take: see Split
  int num_workers = 0;       ///< 0: one per usable core
  std::int64_t max_tokens = kMaxTokens;
  std::int64_t host_memory_bytes = 0;  ///< 0: 80 % of what the machine or its cgroup gives
  std::optional<std::string> isa;      ///< none: TANDEM_ISA, else the best
  std::string device = "host";         ///< what holds the windows: see gpu::make_device()
  gpu::HandOffKind hand_off = gpu::HandOffKind::flag;
  bool graphs = false;                      ///< see gpu::DeviceParams
  std::int32_t device_timeout_ms = 10'000;  ///< the device is given up when it takes longer
  std::string topology;                     ///< hwloc synthetic description; empty: this machine
};

/// Throws Error(invalid_argument) naming the field, the value and what is allowed.
void validate(const Config& config);

/// Reads the field names of td_config, and "topology"; throws Error(invalid_argument) for unknown fields, wrong types
/// and bad values.
Config config_from_json(const std::string& text);
std::string config_to_json(const Config& config);

/// Reads the field names of CostProfile; those that are missing keep their defaults. Errors as above.
lsh::CostProfile profile_from_json(const std::string& text);

}  // namespace tandem
