#pragma once

#include <string>
#include <vector>

#include "runtime/codec_json.h"

namespace tandem::cli {

/// How codecs are spelled: "none", "int8", "fp8", "kivi4", "kivi2", "kivi2:GROUP", "qjl" (256 signs, 8 outlier
/// channels), "qjl:SIGNS,OUTLIERS", "nuq4", "nuq3", "nuq2", or a JSON object with the fields of td_codec. nuq gets the
/// path `calibration`, which may be empty here: the library asks for it.
///
/// Throws UsageError naming `field`, the text and what is allowed.
OwnedCodec parse_codec(const std::string& field, const std::string& text, const std::string& calibration);

/// "none, int8, ..": the forms as --help lists them.
std::string codec_forms();

/// "qjl:256,8,int8" -> "qjl:256,8", "int8": the parts of a list whose forms that start with one of `pairs` have one
/// comma of their own.
std::vector<std::string> split_forms(const std::string& list, const std::vector<std::string>& pairs);

}  // namespace tandem::cli
