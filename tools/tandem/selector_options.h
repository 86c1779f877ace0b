#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "tandem/tandem.hpp"

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
  std::optional<std::string> profile;  ///< the text of the file; none: the built-in profile
};

void add_selector(CLI::App& app, SelectorOptions& options);
/// The first option of add_selector that the command line gave, such as "--lsh"; empty when it gave none.
std::string given_selector_option(const CLI::App& app);

/// Throws UsageError.
td_selector to_selector(const SelectorOptions& options, std::uint64_t seed);

/// Puts the profile and whether it counts into `config`, which must not outlive the options; the selector itself is
/// to_selector's.
void apply(const SelectorOptions& options, td_config& config);

}  // namespace tandem::cli
