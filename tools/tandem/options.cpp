#include "tools/tandem/options.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <limits>
#include <system_error>
#include <thread>

#include <fmt/format.h>

#include "runtime/base/dtype.h"
#include "tools/tandem/command.h"

namespace tandem::cli {
namespace {

constexpr std::int32_t kMaxBits = 12;
constexpr std::int32_t kMaxTables = 300;
constexpr int kMaxThreads = 1024;  // of a runtime
constexpr std::int32_t kMaxWindowTokens = 1 << 24;
constexpr const char* kSelectorGroup = "Which host rows a step attends to";
constexpr double kBytesPerGib = 1024.0 * 1024 * 1024;

/// All of `text` as a number, or `fallback` when it is none.
template <typename Number>
Number parse_or(std::string_view text, Number fallback) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() ? value : fallback;
}

/// A validator made of a parser that throws UsageError.
template <typename Parse>
CLI::Validator parsed_by(Parse parse) {
  const auto check = [parse](const std::string& text) -> std::string {
    try {
      parse(text);
      return {};
    } catch (const UsageError& error) {
      return error.what();
    }
  };
  return {check, ""};
}

std::string not_allowed(const std::string& field, const std::string& text, const std::string& allowed) {
  return fmt::format("{}{}'{}' is not allowed; allowed: {}", field, field.empty() ? "" : ": ", text, allowed);
}

std::string read_profile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  TANDEM_CHECK(file && !std::filesystem::is_directory(path), io, "--profile: cannot read '", path, "'");
  TANDEM_CHECK(Json::accept(text), invalid_argument, "--profile: '", path, "' is not JSON");
  return text;
}

td_dtype dtype_or(const std::string& name, td_dtype fallback) {
  return name.empty() ? fallback : static_cast<td_dtype>(parse_row_format("dtype", name));
}

}  // namespace

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

double parse_budget(const std::string& field, const std::string& text) {
  const double value = parse_or(text, 0.0);
  if (!(value > 0 && value <= 1)) throw UsageError(not_allowed(field, text, "a share above 0 and at most 1"));
  return value;
}

CLI::Validator share() {
  return parsed_by([](const std::string& text) { parse_budget("", text); });
}

void parse_lsh(const std::string& field, const std::string& text, td_selector& selector) {
  const auto comma = std::min(text.find(','), text.size());
  const auto bits = parse_or<std::int32_t>(std::string_view(text).substr(0, comma), 0);
  const auto tables = comma < text.size() ? parse_or<std::int32_t>(std::string_view(text).substr(comma + 1), 0) : 0;
  if (bits < 1 || bits > kMaxBits || tables < 1 || tables > kMaxTables) {
    const auto allowed =
        fmt::format("K,L with K (bits per table) 1 to {} and L (tables) 1 to {}", kMaxBits, kMaxTables);
    throw UsageError(not_allowed(field, text, allowed));
  }
  selector.lsh_bits = bits;
  selector.lsh_tables = tables;
}

void add_common(CLI::App& app, CommonOptions& options, unsigned which) {
  if ((which & kSeed) != 0)
    app.add_option("--seed", options.seed, "seed of everything random [1]")
        ->check(number_in<std::uint64_t>(1, std::numeric_limits<std::uint64_t>::max(),
                                         "a whole number from 1 to 2^64 - 1"));
  if ((which & kThreads) != 0)
    app.add_option("--threads", options.threads, "worker threads; 0: one per usable core [0]")
        ->check(number_in(0, kMaxThreads, fmt::format("a whole number from 0 to {}", kMaxThreads)));
  if ((which & kIsa) != 0)
    app.add_option("--isa", options.isa,
                   "instruction set: scalar, avx2, avx512 or avx512vbmi [the best of this machine]")
        ->check(one_of({"scalar", "avx2", "avx512", "avx512vbmi"}));
  if ((which & kMemory) != 0)
    app.add_option("--memory", options.memory_gib,
                   "host memory the runtime may take, in GiB; 0: 80 % of what there is [0]")
        ->check(number_in(0.0, 1e6, "GiB from 0 to 1000000"));
  if ((which & kJson) != 0)
    app.add_option("--json", options.json, "write the results as JSON to this file; - is standard output");
}

void add_selector(CLI::App& app, SelectorOptions& options) {
  const std::string group = kSelectorGroup;
  app.add_option("--selector", options.kind, fmt::format("all, topk, lsh, sketch or sketch-topk [{}]", options.kind))
      ->check(one_of({"all", "topk", "lsh", "sketch", "sketch-topk"}))
      ->group(group);
  app.add_option("--lsh", options.lsh, "lsh: K,L, sign bits per table and number of tables [10,150]")
      ->type_name("K,L")
      ->check(parsed_by([](const std::string& text) {
        td_selector ignored{};
        parse_lsh("", text, ignored);
      }))
      ->group(group);
  app.add_option("--min-collisions", options.min_collisions, "lsh: tables that must agree on a row, 1 or 2 [2]")
      ->check(number_in(1, 2, "1 or 2"))
      ->group(group);
  app.add_option("--lsh-planes", options.lsh_planes, "lsh: hadamard or gaussian: where sign bits come from [hadamard]")
      ->check(one_of({"hadamard", "gaussian"}))
      ->group(group);
  app.add_option("--budget", options.budget,
                 fmt::format("topk, sketch: share of the host rows, in (0, 1] [{}]", options.budget))
      ->check(share())
      ->group(group);
  app.add_option("--error", options.error,
                 "sketch: wanted relative error of the output, below 1, in place of a budget; 0: none [0]")
      ->check(number_in(0.0, 0.999, "a relative error from 0 to 0.999"))
      ->group(group);
  app.add_option("--sketch-bits", options.sketch_bits,
                 "sketch: bits per dimension of a key's code, 1 or 2; 0: 1 where that is enough [0]")
      ->check(number_in(0, 2, "0, 1 or 2"))
      ->group(group);
  app.add_flag("--unbiased", options.unbiased, "sketch: plain Horvitz-Thompson estimate")->group(group);
  app.add_flag("--always-select", options.always_select,
               "select in short contexts too, where attending to every row takes less time")
      ->group(group);
  app.add_option_function<std::string>(
         "--profile", [&options](const std::string& path) { options.profile = read_profile(path); },
         "file of 'tandem profile --out': what decides where selecting pays [built in]")
      ->type_name("FILE")
      ->group(group);
}

std::string given_selector_option(const CLI::App& app) {
  const auto given = app.get_options(
      [](const CLI::Option* option) { return option->get_group() == kSelectorGroup && option->count() > 0; });
  return given.empty() ? std::string{} : given.front()->get_name();
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

td_selector to_selector(const SelectorOptions& options, std::uint64_t seed) {
  auto selector = td::make<td_selector>();
  selector.seed = seed;
  if (options.kind == "topk") {
    selector.kind = TD_SELECT_TOP_K;
    selector.budget = options.budget;
  } else if (options.kind == "lsh") {
    selector.kind = TD_SELECT_LSH;
    selector.lsh_min_collisions = options.min_collisions;
    selector.lsh_planes = options.lsh_planes == "gaussian" ? TD_PLANES_GAUSSIAN : TD_PLANES_HADAMARD;
    parse_lsh("--lsh", options.lsh, selector);
  } else if (options.kind == "sketch" || options.kind == "sketch-topk") {
    selector.kind = options.kind == "sketch" ? TD_SELECT_SKETCH : TD_SELECT_SKETCH_TOP_K;
    selector.budget = options.budget;
    selector.error = options.error;
    selector.sketch_bits = options.sketch_bits;
    selector.unbiased = options.unbiased ? 1 : 0;
  }
  return selector;
}

Json to_json(const td_selector& selector) {
  if (selector.kind == TD_SELECT_TOP_K) return {{"kind", "topk"}, {"budget", selector.budget}};
  if (selector.kind == TD_SELECT_ALL) return {{"kind", "all"}};
  if (selector.kind == TD_SELECT_SKETCH_TOP_K)
    return {{"kind", "sketch_topk"}, {"budget", selector.budget}, {"sketch_bits", selector.sketch_bits}};
  if (selector.kind == TD_SELECT_SKETCH)
    return {{"kind", "sketch"},
            {"budget", selector.budget},
            {"error", selector.error},
            {"sketch_bits", selector.sketch_bits},
            {"unbiased", selector.unbiased != 0},
            {"seed", selector.seed}};
  return {{"kind", "lsh"},
          {"lsh_bits", selector.lsh_bits},
          {"lsh_tables", selector.lsh_tables},
          {"lsh_min_collisions", selector.lsh_min_collisions},
          {"lsh_planes", selector.lsh_planes == TD_PLANES_GAUSSIAN ? "gaussian" : "hadamard"},
          {"seed", selector.seed}};
}

std::string describe(const td_selector& selector) {
  if (selector.kind == TD_SELECT_TOP_K) return fmt::format("topk {}", selector.budget);
  if (selector.kind == TD_SELECT_ALL) return "all";
  if (selector.kind == TD_SELECT_SKETCH || selector.kind == TD_SELECT_SKETCH_TOP_K) {
    const auto bits = selector.sketch_bits == 0 ? std::string() : fmt::format(", {} bit", selector.sketch_bits);
    const auto goal = selector.error > 0 ? fmt::format("error {}", selector.error) : fmt::format("{}", selector.budget);
    return fmt::format("sketch{} {}{}{}", selector.kind == TD_SELECT_SKETCH ? "" : " topk", goal, bits,
                       selector.unbiased != 0 ? ", unbiased" : "");
  }
  const char* planes = selector.lsh_planes == TD_PLANES_GAUSSIAN ? " gaussian" : "";
  const char* suffix = selector.lsh_min_collisions == 1 ? " (1 collision)" : "";
  return fmt::format("lsh {},{}{}{}", selector.lsh_bits, selector.lsh_tables, planes, suffix);
}

void apply(const CommonOptions& options, td_config& config) {
  config.num_threads = options.threads;
  if (options.memory_gib > 0)  // less than a byte is still a limit, whereas 0 is the default
    config.host_memory_bytes = std::max<std::int64_t>(1, static_cast<std::int64_t>(options.memory_gib * kBytesPerGib));
  config.isa = options.isa.empty() ? nullptr : options.isa.c_str();
}

void apply(const SelectorOptions& options, td_config& config) {
  config.never_slower = options.always_select ? TD_OFF : TD_ON;
  config.profile = options.profile ? options.profile->c_str() : nullptr;
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
