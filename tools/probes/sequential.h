#pragma once

#include <cstddef>
#include <cstdint>

#include "tools/probes/team.h"

namespace tandem::probes {

/// Bandwidths of sweeps in 1e9 bytes per second, shared evenly by the members of a team. Bytes are those that the
/// program reads and writes, as STREAM counts them (McCalpin, IEEE TCCA newsletter, December 1995): what a processor
/// reads besides, of lines that are written as a whole, does not count. `bytes` are those of one array, and arrays lie
/// at multiples of 64.

/// All of an array, with the widest loads that the processor has: its bytes.
double read_gb_per_s(Team& team, const std::byte* array, std::int64_t bytes);
/// The same with each line asked for ahead, as the library's kernels do: faster where the processor does not do so.
double asking_read_gb_per_s(Team& team, const std::byte* array, std::int64_t bytes);

/// The same, a line of each of four rows of 512 bytes in turn: faster where the processor follows several streams
/// better than one.
double interleaved_read_gb_per_s(Team& team, const std::byte* array, std::int64_t bytes);

/// to = from by the C library's memcpy, which GCC makes of STREAM's COPY and `mbw -t0` calls: twice the bytes of an
/// array. Large ones may go past the caches.
double copy_gb_per_s(Team& team, const std::byte* from, std::byte* to, std::int64_t bytes);
/// The same with ordinary stores, which read every line before they write it.
double plain_copy_gb_per_s(Team& team, const std::byte* from, std::byte* to, std::int64_t bytes);

/// to = x + 3 y of doubles with ordinary stores, as compilers make of STREAM's TRIAD: three times the bytes of an
/// array.
double triad_gb_per_s(Team& team, const std::byte* x, const std::byte* y, std::byte* to, std::int64_t bytes);

/// Whether the processor has the stores past the caches that the next two use.
bool has_streaming_stores() noexcept;
/// As the two above with these.
double streaming_copy_gb_per_s(Team& team, const std::byte* from, std::byte* to, std::int64_t bytes);
double streaming_triad_gb_per_s(Team& team, const std::byte* x, const std::byte* y, std::byte* to, std::int64_t bytes);

}  // namespace tandem::probes
