#pragma once

#include <cstdint>
#include <string>

#include "lsh/cost_profile.h"
#include "tools/tandem/options.h"

namespace tandem::cli {

/// What `tandem profile` measures with.
struct ProfilePlan {
  std::int64_t short_tokens = 2048;  ///< costs per row are slopes between two lengths
  std::int64_t long_tokens = 16384;
  int steps = 24;             ///< per length and selector; their lower quartiles count
  std::int32_t kv_heads = 8;  ///< of the made-up layer
  std::int64_t cache_bytes = 0;
  CommonOptions common;

  /// The smaller lengths and fewer steps of --quick.
  static ProfilePlan quick();
};

/// Measures every field of a profile through the C interface: decode steps of a made-up layer, with the caches emptied
/// before each. Shows progress; throws Interrupted, td::Error.
lsh::CostProfile measure_profile(const ProfilePlan& plan);

}  // namespace tandem::cli
