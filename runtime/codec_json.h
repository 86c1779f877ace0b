#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <variant>

#include <nlohmann/json.hpp>

#include "runtime/json_fields.h"
#include "tandem/tandem.h"

namespace tandem {

// How td_codec reads as JSON, for the library and for the command line: the one list of its kinds and fields.

inline constexpr std::array<const char*, 6> kCodecKinds = {"none", "int8", "fp8",
                                                           "kivi", "qjl",  "nuq"};          // td_codec_kind
inline constexpr std::array<const char*, 2> kProjectionNames = {"orthogonal", "gaussian"};  // td_projection

struct CodecField {
  const char* name;
  std::variant<std::int32_t td_codec::*, std::uint64_t td_codec::*> value;
  unsigned kinds;  ///< that have it, 1 << td_codec_kind each

  [[nodiscard]] bool is_of(std::int32_t kind) const noexcept { return ((kinds >> kind) & 1u) != 0; }
};

inline constexpr CodecField kCodecFields[] = {
    {"bits", &td_codec::bits, 1u << TD_CODEC_KIVI | 1u << TD_CODEC_NUQ},
    {"group", &td_codec::group, 1u << TD_CODEC_KIVI},
    {"sketch_bits", &td_codec::sketch_bits, 1u << TD_CODEC_QJL},
    {"outlier_bits", &td_codec::outlier_bits, 1u << TD_CODEC_QJL},
    {"outliers", &td_codec::outliers, 1u << TD_CODEC_QJL},
    {"seed", &td_codec::seed, 1u << TD_CODEC_QJL},
};

/// A td_codec with the text that it points to.
struct OwnedCodec {
  td_codec codec;
  std::string calibration;

  [[nodiscard]] td_codec get() const noexcept {
    td_codec whole = codec;
    whole.calibration = calibration.empty() ? nullptr : calibration.c_str();
    return whole;
  }
};

/// The index of `name` in `names`. Throws Error(invalid_argument) naming `field` and what is allowed.
template <std::size_t N>
std::int32_t index_of(const char* field, const std::string& name, const std::array<const char*, N>& names) {
  std::string allowed;
  for (std::size_t i = 0; i < N; ++i) {
    if (name == names[i]) return static_cast<std::int32_t>(i);
    allowed += (allowed.empty() ? "" : ", ") + std::string(names[i]);
  }
  fail(ErrorCode::invalid_argument, field, " is '", name, "'; allowed: ", allowed);
}

/// Reads the kind and its fields; those that are missing are defaults. Throws Error(invalid_argument) for unknown kinds
/// and fields and for wrong types; ranges are the library's to check.
inline OwnedCodec read_codec(const nlohmann::json& object) {
  OwnedCodec result;
  td_codec& codec = result.codec;
  TD_INIT(codec);
  Fields fields(object, "window_codec");
  std::string kind = kCodecKinds[TD_CODEC_NONE];
  fields.read("kind", kind);
  codec.kind = index_of("window_codec.kind", kind, kCodecKinds);
  for (const CodecField& field : kCodecFields) {
    if (!field.is_of(codec.kind)) continue;
    std::visit([&](auto value) { fields.read(field.name, codec.*value); }, field.value);
  }
  if (codec.kind == TD_CODEC_QJL) {
    std::string projection = kProjectionNames[TD_PROJECTION_ORTHOGONAL];
    fields.read("projection", projection);
    codec.projection = index_of("window_codec.projection", projection, kProjectionNames);
  }
  if (codec.kind == TD_CODEC_NUQ) fields.read("calibration", result.calibration);
  fields.reject_others();
  return result;
}

/// {"kind": "kivi", "bits": 4, ..}: the fields that its kind has.
template <typename Json>
Json codec_to_json(const td_codec& codec) {
  Json object = {{"kind", kCodecKinds.at(static_cast<std::size_t>(codec.kind))}};
  for (const CodecField& field : kCodecFields) {
    if (field.is_of(codec.kind)) std::visit([&](auto value) { object[field.name] = codec.*value; }, field.value);
  }
  if (codec.kind == TD_CODEC_QJL)
    object["projection"] = kProjectionNames.at(static_cast<std::size_t>(codec.projection));
  if (codec.kind == TD_CODEC_NUQ && codec.calibration != nullptr) object["calibration"] = codec.calibration;
  return object;
}

}  // namespace tandem
