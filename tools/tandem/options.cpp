#include "tools/tandem/options.h"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <system_error>
#include <thread>

#include <fmt/format.h>

#include "runtime/base/dtype.h"
#include "tools/tandem/command.h"
#include "tools/tandem/validators.h"

namespace tandem::cli {
namespace {

constexpr int kMaxThreads = 1024;  // of a runtime
constexpr std::int32_t kMaxWindowTokens = 1 << 24;
constexpr double kBytesPerGib = 1024.0 * 1024 * 1024;

td_dtype dtype_or(const std::string& name, td_dtype fallback) {
  return name.empty() ? fallback : static_cast<td_dtype>(parse_row_format("dtype", name));
}

}  // namespace

std::int64_t parse_tokens(const std::string& field, const std::string& text) {
  constexpr std::int64_t kMost = std::int64_t{1} << 24;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const std::int64_t factor = unit.empty()                 ? 1
                              : unit == "K" || unit == "k" ? 1 << 10
                              : unit == "M" || unit == "m" ? 1 << 20
                                                           : 0;
  if (error != std::errc{} || factor == 0 || value < 1 || value > kMost / factor)
    throw UsageError(
        fmt::format("{}: '{}' is not allowed; allowed: 1 to 16M, with K or M for 2^10 or 2^20", field, text));
  return value * factor;
}

std::string not_allowed(const std::string& field, const std::string& text, const std::string& allowed) {
  return fmt::format("{}{}'{}' is not allowed; allowed: {}", field, field.empty() ? "" : ": ", text, allowed);
}

std::vector<std::string> split_list(const std::string& list) {
  std::vector<std::string> parts(1);
  for (const char c : list) {
    if (c == ',')
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

CLI::Validator one_of(std::vector<std::string> names) {
  const auto check = [names = std::move(names)](const std::string& text) -> std::string {
    if (std::find(names.begin(), names.end(), text) != names.end()) return {};
    return not_allowed("", text, fmt::format("{}", fmt::join(names, ", ")));
  };
  return {check, ""};
}

void add_isa(CLI::App& app, std::string& isa) {
  app.add_option("--isa", isa, "instruction set: scalar, avx2, avx512 or avx512vbmi [the best of this machine]")
      ->check(one_of({"scalar", "avx2", "avx512", "avx512vbmi"}));
}

void add_common(CLI::App& app, CommonOptions& options, unsigned which) {
  if ((which & kSeed) != 0)
    app.add_option("--seed", options.seed, "seed of everything random [1]")
        ->check(number_in<std::uint64_t>(1, std::numeric_limits<std::uint64_t>::max(),
                                         "a whole number from 1 to 2^64 - 1"));
  if ((which & kThreads) != 0)
    app.add_option("--threads", options.threads, "worker threads; 0: one per usable core [0]")
        ->check(number_in(0, kMaxThreads, fmt::format("a whole number from 0 to {}", kMaxThreads)));
  if ((which & kIsa) != 0) add_isa(app, options.isa);
  if ((which & kMemory) != 0)
    app.add_option("--memory", options.memory_gib,
                   "host memory the runtime may take, in GiB; 0: 80 % of what there is [0]")
        ->check(number_in(0.0, 1e6, "GiB from 0 to 1000000"));
  if ((which & kJson) != 0)
    app.add_option("--json", options.json, "write the results as JSON to this file; - is standard output");
}

void add_tiers(CLI::App& app, TierOptions& options) {
  const std::string group = "Window and host tier";
  const auto sinks = number_in(0, kMaxWindowTokens, fmt::format("a whole number from 0 to {}", kMaxWindowTokens));
  const auto local = number_in(1, kMaxWindowTokens, fmt::format("a whole number from 1 to {}", kMaxWindowTokens));
  const auto dtypes = one_of({"f32", "f16", "bf16"});
  app.add_option("--sinks", options.sinks, "first tokens that stay in the window [4]")->check(sinks)->group(group);
  app.add_option("--local", options.local, "latest tokens that stay in the window [256]")->check(local)->group(group);
  app.add_option("--window-dtype", options.window_dtype, "f32, f16 or bf16: rows of the window")
      ->check(dtypes)
      ->group(group);
  app.add_option("--host-dtype", options.host_dtype, "f32, f16, bf16, int8 or k8v4: rows of the host tier")
      ->check(one_of({"f32", "f16", "bf16", "int8", "k8v4"}))
      ->group(group);
}

void apply(const CommonOptions& options, td_config& config) {
  config.num_threads = options.threads;
  if (options.memory_gib > 0)  // less than a byte is still a limit, whereas 0 is the default
    config.host_memory_bytes = std::max<std::int64_t>(1, static_cast<std::int64_t>(options.memory_gib * kBytesPerGib));
  config.isa = options.isa.empty() ? nullptr : options.isa.c_str();
}

void apply(const TierOptions& options, td_dtype default_window, td_dtype default_host, td_config& config) {
  config.sink_tokens = options.sinks;
  config.local_tokens = options.local;
  config.window_dtype = dtype_or(options.window_dtype, default_window);
  config.host_dtype = dtype_or(options.host_dtype, default_host);
}

td::Runtime make_runtime(const td_config& config) {
  try {
    return td::Runtime(config);
  } catch (const td::Error& error) {
    if (error.status() == TD_EINVAL || error.status() == TD_EUNSUPPORTED) throw UsageError(error.what());
    // The C interface passes on the text of std::thread's std::system_error, not its type.
    if (error.status() == TD_EINTERNAL && error.what() == std::generic_category().message(EAGAIN))
      throw std::system_error(EAGAIN, std::generic_category());
    throw;
  }
}

Json describe(const td::Runtime& runtime) { return Json::parse(runtime.describe()); }

int threads_of(const Json& description) { return description.at("workers").get<int>(); }

std::string isa_of(const Json& description) { return description.at("isa").get<std::string>(); }

std::int64_t last_level_cache_bytes(const Json& description) {
  return description.at("machine").at("last_level_cache_bytes").get<std::int64_t>();
}

Json tiers_json(const td_config& config) {
  return {{"sink_tokens", config.sink_tokens},
          {"local_tokens", config.local_tokens},
          {"window_dtype", to_string(static_cast<DType>(config.window_dtype))},
          {"host_dtype", to_string(static_cast<DType>(config.host_dtype))}};
}

int num_threads(const CommonOptions& options) {
  return options.threads > 0 ? options.threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace tandem::cli
