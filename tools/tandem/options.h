#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "runtime/base/error.h"
#include "tandem/tandem.hpp"
#include "tools/tandem/output.h"

namespace tandem::cli {

/// Options that every subcommand has where they make sense.
struct CommonOptions {
  std::uint64_t seed = 1;
  std::int32_t threads = 0;
  double memory_gib = 0;
  std::string isa;
  std::string json;
};

struct SelectorOptions {
  std::string kind = "sketch";
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

/// The tiers: what stays in the window and how rows are stored. An empty dtype means the subcommand's own default.
struct TierOptions {
  std::int32_t sinks = 4;
  std::int32_t local = 256;
  std::string window_dtype;
  std::string host_dtype;
};

/// How a number option reads in --help, in the order of CommonOptions.
enum : unsigned { kSeed = 1, kThreads = 2, kIsa = 4, kJson = 8, kMemory = 16, kAllCommon = 31 };

void add_common(CLI::App& app, CommonOptions& options, unsigned which);
void add_selector(CLI::App& app, SelectorOptions& options);
/// The first option of add_selector that the command line gave, such as "--lsh"; empty when it gave none.
std::string given_selector_option(const CLI::App& app);
void add_tiers(CLI::App& app, TierOptions& options);

/// "1,2,8" -> its parts, which may be empty; at least one.
std::vector<std::string> split_list(const std::string& list);

/// Accepts a number in [low, high], all of it; otherwise the error says `allowed`.
template <typename Number>
CLI::Validator number_in(Number low, Number high, std::string allowed) {
  const auto check = [=](const std::string& text) -> std::string {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = error == std::errc{} && end == text.data() + text.size();
    if (whole && value >= low && value <= high) return {};
    return concat("'", text, "' is not allowed; allowed: ", allowed);
  };
  return {check, ""};
}

/// Accepts one of `names`.
CLI::Validator one_of(std::vector<std::string> names);

/// A share: above 0 and at most 1.
CLI::Validator share();

/// "10,150" -> K and L of `selector`. Throws UsageError naming `field`, the text and what is allowed.
void parse_lsh(const std::string& field, const std::string& text, td_selector& selector);
/// A share from text. Throws UsageError like parse_lsh.
double parse_budget(const std::string& field, const std::string& text);

td_selector to_selector(const SelectorOptions& options, std::uint64_t seed);
/// {"kind": "lsh", "lsh_bits": 10, ...}: only the knobs that the kind has.
Json to_json(const td_selector& selector);
/// "lsh 10,150", "topk 0.02" or "all".
std::string describe(const td_selector& selector);

/// Puts the options into `config`, which must not outlive them.
void apply(const CommonOptions& options, td_config& config);
/// The profile and whether it counts; the selector itself is to_selector's.
void apply(const SelectorOptions& options, td_config& config);
void apply(const TierOptions& options, td_dtype default_window, td_dtype default_host, td_config& config);

/// td::Runtime whose bad configuration is a UsageError.
td::Runtime make_runtime(const td_config& config);

/// What td_describe says.
Json describe(const td::Runtime& runtime);

/// What it says about the runtime's workers, its instruction set and the machine's last-level cache.
int threads_of(const Json& description);
std::string isa_of(const Json& description);
std::int64_t last_level_cache_bytes(const Json& description);

/// {"sink_tokens", "local_tokens", "window_dtype", "host_dtype"}
Json tiers_json(const td_config& config);

/// Worker threads to use outside the runtime: --threads, or every usable core.
int num_threads(const CommonOptions& options);

}  // namespace tandem::cli
