#pragma once

#include <cstddef>
#include <cstdint>

#include "tools/probes/team.h"

namespace tandem::probes {

/// Links are doubles in [1, 2) whose mantissa is the distance of the next link from the array's start, in bytes: 1.0
/// itself leads to the first.
inline constexpr double kLinkOrigin = 1.0;

/// Lays one cycle through an array: a link in every 256 bytes (processors fetch neighbouring lines, too), up to the
/// largest power of two of them, in scattered order. The array is one of kLinkOrigin; `bytes` at least 256.
void link(Team& team, std::byte* array, std::int64_t bytes);

/// Links in an array of so many bytes.
std::int64_t links_in(std::int64_t bytes);

/// Follows `steps` links from link `first` of the cycle on. Returns nanoseconds per step: the latency of a load whose
/// address depends on the load before.
double chase_ns(Team& team, const std::byte* array, std::int64_t bytes, std::int64_t first, std::int64_t steps);

}  // namespace tandem::probes
