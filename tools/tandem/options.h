#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/base/error.h"
#include "tandem/tandem.hpp"
#include "tools/tandem/cli_fwd.h"
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

/// The tiers: what stays in the window and how rows are stored. An empty dtype means the subcommand's own default.
struct TierOptions {
  std::int32_t sinks = 4;
  std::int32_t local = 256;
  std::string window_dtype;
  std::string host_dtype;
};

/// How a number option reads in --help, in the order of CommonOptions.
enum : unsigned { kSeed = 1, kThreads = 2, kIsa = 4, kJson = 8, kMemory = 16, kAllCommon = 31 };

/// --isa; empty: the best of this machine.
void add_isa(CLI::App& app, std::string& isa);
void add_common(CLI::App& app, CommonOptions& options, unsigned which);
void add_tiers(CLI::App& app, TierOptions& options);

/// "1,2,8" -> its parts, which may be empty; at least one.
std::vector<std::string> split_list(const std::string& list);

/// "4K" -> 4096, "1M" -> 1048576, "1000" -> 1000, up to 16M; k and m will do. Throws UsageError naming `field`.
std::int64_t parse_tokens(const std::string& field, const std::string& text);

/// All of `text` as a number, or `fallback` when it is none.
template <typename Number>
Number parse_or(std::string_view text, Number fallback) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() ? value : fallback;
}

/// "--option: 'text' is not allowed; allowed: ..", without the option where `field` is empty.
std::string not_allowed(const std::string& field, const std::string& text, const std::string& allowed);

/// Puts the options into `config`, which must not outlive them.
void apply(const CommonOptions& options, td_config& config);
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
