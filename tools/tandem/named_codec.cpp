#include "tools/tandem/named_codec.h"

#include <algorithm>

#include <fmt/format.h>

#include "runtime/base/dtype.h"
#include "tools/tandem/command.h"
#include "tools/tandem/options.h"
#include "tools/tandem/validators.h"

namespace tandem::cli {

void add_codec_list(CLI::App& app, CodecListOptions& options) {
  app.add_option("--codecs", options.codecs,
                 fmt::format("list of bf16, f16, f32 (rows as they are), {} [{}; with --nuq-calibration also {}]",
                             codec_forms(), kDefaultCodecs, kCalibratedCodecs));
  app.add_option("--nuq-calibration", options.calibration, "nuq: file that `tandem calibrate` wrote for this model");
  app.add_option("--window-dtype", options.window_dtype, "f32, f16 or bf16: rows that no codec compresses [bf16]")
      ->check(one_of({"f32", "f16", "bf16"}));
}

std::vector<NamedCodec> parse_codecs(const CodecListOptions& options) {
  auto list = options.codecs;
  if (list.empty())
    list = options.calibration.empty() ? kDefaultCodecs : fmt::format("{},{}", kDefaultCodecs, kCalibratedCodecs);
  std::vector<NamedCodec> codecs;
  for (const auto& name : split_forms(list, {"qjl:"})) {
    const bool is_dtype = name == "f32" || name == "f16" || name == "bf16";
    codecs.push_back({name, parse_codec("--codecs", is_dtype ? "none" : name, options.calibration),
                      static_cast<td_dtype>(parse_dtype("--window-dtype", is_dtype ? name : options.window_dtype))});
    if (codecs.back().codec.codec.kind == TD_CODEC_NUQ && options.calibration.empty())
      throw UsageError(fmt::format("--codecs: '{}' is not allowed without --nuq-calibration", name));
  }
  const bool uses_calibration = std::any_of(
      codecs.begin(), codecs.end(), [](const NamedCodec& each) { return each.codec.codec.kind == TD_CODEC_NUQ; });
  if (!options.calibration.empty() && !uses_calibration)
    throw UsageError(
        fmt::format("--nuq-calibration: not allowed with --codecs {}; allowed with: nuq4, nuq3, nuq2", options.codecs));
  return codecs;
}

}  // namespace tandem::cli
