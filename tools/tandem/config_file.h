#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tandem/tandem.h"
#include "tools/tandem/cli_fwd.h"
#include "tools/tandem/options.h"
#include "tools/tandem/selector_options.h"
#include "tools/tandem/window_options.h"

namespace tandem::cli {

/// The options of a subcommand that a configuration file takes the place of.
struct ConfiguredOptions {
  CommonOptions& common;
  SelectorOptions& selector;
  TierOptions& tiers;
  WindowOptions& window;
};

/// A configuration as td_create_json takes it, from a file: what `tandem profile split --out` writes.
class ConfigFile {
 public:
  /// Adds --config to a subcommand that has the other options already.
  void add_to(CLI::App& app);
  /// Once `app` has been parsed: puts what the file says into `options`; nothing without --config. Throws UsageError
  /// for options beside --config that the file speaks of, and for fields that this cannot take; Error(io |
  /// invalid_argument) for a file that cannot be read.
  void apply(const CLI::App& app, const ConfiguredOptions& options);
  /// Throws UsageError when the file was made for heads of another number or size than those of `what`.
  void check_shape(const td_config& config, const std::string& what) const;

 private:
  std::string path_;
  std::optional<Json> config_;
};

}  // namespace tandem::cli
