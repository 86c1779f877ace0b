#pragma once

#include <cstdint>

namespace tandem::cpu {

// How blocks of codec nuq are laid out, for the code that every instruction set is compiled from too; codec/nuq.h says
// what the parts hold.

inline constexpr int kNuqBlockRows = 64;
/// A unit of codes: 8 fields of 16 lanes.
inline constexpr int kNuqLanes = 16;
inline constexpr int kNuqFields = 8;
/// Entries of a table of levels: those of fewer bits are repeated, so that the bits above a code do not matter.
inline constexpr int kNuqLevels = 16;
/// The bits of a residual's word that say which element it belongs to.
inline constexpr std::uint32_t kNuqPlaceMask = 0x3ff;

}  // namespace tandem::cpu
