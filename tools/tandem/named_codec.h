#pragma once

#include <string>
#include <vector>

#include "tools/tandem/cli_fwd.h"
#include "tools/tandem/codec_text.h"

namespace tandem::cli {

/// A codec of a table: how it is spelled, and what the window holds. "bf16", "f16" and "f32" are windows without one.
struct NamedCodec {
  std::string name;
  OwnedCodec codec;
  td_dtype dtype;  ///< of rows that are not coded
};

/// What tables compare unless told otherwise, without and with a calibration.
inline constexpr const char* kDefaultCodecs = "bf16,int8,fp8,kivi4,kivi2,qjl:256,0,qjl:256,8";
inline constexpr const char* kCalibratedCodecs = "nuq4,nuq3,nuq2";

/// --codecs, --nuq-calibration and --window-dtype of a subcommand.
struct CodecListOptions {
  std::string codecs = {};  ///< empty: the defaults
  std::string calibration = {};
  std::string window_dtype = "bf16";
};

void add_codec_list(CLI::App& app, CodecListOptions& options);

/// Throws UsageError naming the option, the text and what is allowed.
std::vector<NamedCodec> parse_codecs(const CodecListOptions& options);

}  // namespace tandem::cli
