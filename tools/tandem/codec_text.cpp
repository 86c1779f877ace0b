#include "tools/tandem/codec_text.h"

#include <algorithm>

#include <fmt/format.h>

#include "tools/tandem/command.h"
#include "tools/tandem/options.h"

namespace tandem::cli {
namespace {

[[noreturn]] void refuse(const std::string& field, const std::string& text) {
  throw UsageError(not_allowed(field, text, codec_forms()));
}

/// All of `text` as a number from `low` on.
std::int32_t number_of(const std::string& field, const std::string& text, const std::string& number, std::int32_t low) {
  const auto value = parse_or<std::int32_t>(number, low - 1);
  if (value < low) refuse(field, text);
  return value;
}

OwnedCodec read_object(const std::string& field, const std::string& text) {
  const auto object = nlohmann::json::parse(text, nullptr, false);
  if (!object.is_object() || !object.contains("kind")) refuse(field, text);
  try {
    return read_codec(object);
  } catch (const Error& error) {
    throw UsageError(fmt::format("{}{}{}", field, field.empty() ? "" : ": ", error.what()));
  }
}

/// "256,8" -> signs and outlier channels.
void read_sketch(const std::string& field, const std::string& text, const std::string& knobs, td_codec& codec) {
  const auto parts = split_list(knobs);
  if (parts.size() != 2) refuse(field, text);
  codec.sketch_bits = number_of(field, text, parts[0], 1);
  const auto outliers = number_of(field, text, parts[1], 0);
  codec.outliers = outliers == 0 ? -1 : outliers;
}

/// The kind and the bits that a name stands for.
struct Form {
  const char* name;
  td_codec_kind kind;
  std::int32_t bits;
};
constexpr Form kForms[] = {{"none", TD_CODEC_NONE, 0},  {"int8", TD_CODEC_INT8, 0},  {"fp8", TD_CODEC_FP8, 0},
                           {"kivi4", TD_CODEC_KIVI, 4}, {"kivi2", TD_CODEC_KIVI, 2}, {"qjl", TD_CODEC_QJL, 0},
                           {"nuq4", TD_CODEC_NUQ, 4},   {"nuq3", TD_CODEC_NUQ, 3},   {"nuq2", TD_CODEC_NUQ, 2}};

}  // namespace

OwnedCodec parse_codec(const std::string& field, const std::string& text, const std::string& calibration) {
  if (text.starts_with('{')) return read_object(field, text);
  const auto colon = std::min(text.find(':'), text.size());
  const auto* form = std::find_if(std::begin(kForms), std::end(kForms),
                                  [&](const Form& each) { return text.substr(0, colon) == each.name; });
  if (form == std::end(kForms)) refuse(field, text);
  OwnedCodec result;
  TD_INIT(result.codec);
  result.codec.kind = form->kind;
  result.codec.bits = form->bits;
  if (form->kind == TD_CODEC_NUQ) result.calibration = calibration;
  if (colon == text.size()) return result;
  const auto knobs = text.substr(colon + 1);
  if (form->kind == TD_CODEC_KIVI) {
    result.codec.group = number_of(field, text, knobs, 1);
  } else if (form->kind == TD_CODEC_QJL) {
    read_sketch(field, text, knobs, result.codec);
  } else {
    refuse(field, text);
  }
  return result;
}

std::string codec_forms() {
  std::string forms;
  for (const Form& form : kForms) {
    forms += fmt::format("{}{}", forms.empty() ? "" : ", ", form.name);
    if (form.kind == TD_CODEC_KIVI) forms += fmt::format(", {}:GROUP", form.name);
    if (form.kind == TD_CODEC_QJL) forms += ", qjl:SIGNS,OUTLIERS";
  }
  return forms + " or a JSON object";
}

std::vector<std::string> split_forms(const std::string& list, const std::vector<std::string>& pairs) {
  std::vector<std::string> forms;
  for (const auto& part : split_list(list)) {
    const bool open = !forms.empty() && forms.back().find(',') == std::string::npos &&
                      std::any_of(pairs.begin(), pairs.end(),
                                  [&](const std::string& start) { return forms.back().starts_with(start); });
    if (open) {
      forms.back() += ',' + part;
    } else {
      forms.push_back(part);
    }
  }
  return forms;
}

}  // namespace tandem::cli
