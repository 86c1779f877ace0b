#pragma once

#include <cstdint>

#include "bench/decode_step/options.h"

namespace tandem::bench {

inline constexpr double kColdFactor = 1.25;  // data beyond the last-level cache, so that it cannot hold all of it

/// How the data of a timed step is kept out of the caches.
enum class Cold {
  wash,    ///< a buffer larger than the last-level cache is read before every step
  rotate,  ///< steps visit copies of the data that together exceed the last-level cache
  warm     ///< not at all
};

const char* to_string(Cold cold) noexcept;

/// As the command line says; "auto" rotates where every method reads all of its data and a few copies are enough.
/// `smallest_bytes` is what the smallest configuration holds.
Cold cold_of(const Options& options, std::int64_t smallest_bytes, std::int64_t cache_bytes);

/// Layers of a configuration that keeps `bytes` in each. Throws cli::UsageError when rotation would take too many.
int layers_for(Cold cold, std::int64_t bytes, std::int64_t cache_bytes);

/// Memory that the machine could give now.
std::int64_t available_bytes();

}  // namespace tandem::bench
