#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tandem/tandem.hpp"
#include "tools/tandem/cli_fwd.h"

namespace tandem::cli {

/// The options of a subcommand that choose a selector and when it counts.
struct SelectorOptions {
  std::string selector = "sketch";  ///< as parse_selector() reads it; what it names goes before the options below
  std::string lsh = "10,150";
  std::int32_t min_collisions = 2;
  std::string lsh_planes = "hadamard";
  double budget = 0.02;
  double error = 0;
  std::int32_t sketch_bits = 0;
  bool unbiased = false;
  bool always_select = false;
  bool auto_split = false;
  std::vector<std::string> given;      ///< those of add_selector that the command line has, such as "--lsh"
  std::optional<std::string> profile;  ///< the text of the file; none: the built-in profile
};

void add_selector(CLI::App& app, SelectorOptions& options);
/// --auto-split, for subcommands whose results may depend on time.
void add_auto_split(CLI::App& app, SelectorOptions& options);
/// Once `app` has been parsed: fills options.given.
void note_given(const CLI::App& app, SelectorOptions& options);

/// Throws UsageError for an option that was given and that none of `selectors` has a use for; `chosen_by` is what chose
/// them, as in "--selector topk".
void refuse_unused(const SelectorOptions& options, const std::vector<td_selector>& selectors,
                   const std::string& chosen_by);

/// Throws UsageError.
td_selector to_selector(const SelectorOptions& options, std::uint64_t seed);

/// Puts the profile and whether it counts into `config`, which must not outlive the options; the selector itself is
/// to_selector's.
void apply(const SelectorOptions& options, td_config& config);

}  // namespace tandem::cli
