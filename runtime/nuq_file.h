#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "cpu/codec/nuq_calibration.h"

namespace tandem {

// A calibration of codec nuq as a file, which `tandem calibrate` writes: one JSON object of
//
//   format "tandem-nuq", version 1, num_layers, num_kv_heads, head_dim_k, head_dim_v, rope_theta, rope_dims,
//   rope_interleaved, outliers, bits (a list), checksum, and layers, a list of objects of
//     offset, scale   (num_kv_heads * head_dim_k) each, the ranges of pre-RoPE K's channels
//     levels_k, levels_v   one list of 2^b ascending levels for each b of bits
//
// The checksum is FNV-1a, 64 bits, over all other values, as 16 hexadecimal digits. Numbers are exact: what is read is
// what was written.

inline constexpr std::int32_t kNuqFileVersion = 1;

std::string nuq_to_json(const cpu::NuqCalibration& calibration);

/// Throws Error(io) that starts with `name` and names the field, its value and what is expected: what is not such an
/// object, is of another version, does not match its checksum, or is refused by NuqCalibration.
std::shared_ptr<const cpu::NuqCalibration> nuq_from_json(const std::string& text, const std::string& name);

/// Reads a file; errors as above, also where it is missing, no regular file or larger than 1 GiB.
std::shared_ptr<const cpu::NuqCalibration> read_nuq_file(const std::filesystem::path& path);

/// The checksum that the file of a calibration has.
std::uint64_t nuq_checksum(const cpu::NuqCalibration& calibration);

}  // namespace tandem
