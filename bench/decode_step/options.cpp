#include "bench/decode_step/options.h"

#include <algorithm>
#include <cstdlib>
#include <thread>

#include <fmt/format.h>

#include "bench/baselines/baselines.h"
#include "tools/tandem/command.h"
#include "tools/tandem/selector_text.h"
#include "tools/tandem/usage.h"
#include "tools/tandem/validators.h"

namespace tandem::bench {
namespace {

constexpr const char* kHelp =
    R"(What is measured: wall clock of one decode step of one layer (append a token, attend) through the C interface, on
synthetic heads of six kinds. Configurations take turns (A B C A B C ..) in one process, so that a disturbance of the
machine meets all of them. A step before the timed ones is not counted.
Cold: 'wash' reads a buffer of 1.25 x the last-level cache before every step, as a model's other layers and weights
would; 'rotate' visits copies of the data that exceed the cache together (right for methods that read everything: a
sparse step touches too little of a copy to push out the others); 'auto' rotates when every selector is 'all' and 32
copies are enough, and washes otherwise.
floor: bytes that the step has to read (window, index, gathered rows) over the bandwidth of sequential reads with as
many threads, measured before and after in the same process; gap: median / floor. reach: the same, but gathered rows
at the bandwidth of reading every 50th row of 512 bytes.
error: |out - dense| / |dense| per query head and step, dense in double precision.
Selectors are given by kind and fields, as td_create_json knows them; --selector may be repeated:
  --selector all --selector topk:budget=0.02 --selector '{"kind": "lsh", "lsh_bits": 8, "lsh_tables": 75}'
Example:
  decode_step --contexts 4K,32K,128K --threads 1,2 --selector all --selector lsh --json result.json)";

/// The lists of the command line as text.
struct Raw {
  std::string contexts = "4K,32K", threads, batches = "1", host_dtypes = "bf16", baselines, kind = "mixed";
  std::vector<std::string> selectors = {"all", "topk:budget=0.02", "lsh"};
};

std::vector<int> counts(const std::string& field, const std::string& list, int most) {
  std::vector<int> values;
  for (const auto& text : cli::split_list(list)) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < 1 || value > most)
      throw cli::UsageError(
          fmt::format("{}: '{}' is not allowed; allowed: a list of whole numbers from 1 to {}", field, text, most));
    values.push_back(value);
  }
  return values;
}

std::vector<std::string> known_baselines(const std::string& list) {
  if (list.empty()) return {};
  const auto known = baseline_names();
  auto names = cli::split_list(list);
  for (const auto& name : names) {
    if (std::find(known.begin(), known.end(), name) == known.end())
      throw cli::UsageError(
          fmt::format("--baselines: '{}' is not allowed; allowed: {}", name,
                      known.empty() ? "none, this build has no FAISS" : fmt::format("{}", fmt::join(known, ", "))));
  }
  return names;
}

void resolve(const Raw& raw, Options& options) {
  options.contexts.clear();
  for (const auto& text : cli::split_list(raw.contexts))
    options.contexts.push_back(cli::parse_tokens("--contexts", text));
  for (const auto& text : raw.selectors) options.selectors.push_back(cli::parse_selector("--selector", text));
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  options.threads = raw.threads.empty() ? std::vector<int>{cores} : counts("--threads", raw.threads, 1024);
  options.batches = counts("--batches", raw.batches, 1024);
  options.host_dtypes = cli::split_list(raw.host_dtypes);
  for (const auto& dtype : options.host_dtypes) parse_row_format("--host-dtypes", dtype);
  options.devices = cli::split_list(options.window.device);
  options.baselines = known_baselines(raw.baselines);
  options.shape.kind = cli::head_kind_named(raw.kind);
  options.exact_steps = std::min(options.exact_steps, options.steps + 1);
  cli::choose_window(options.window);  // bad usage is found here
  const auto& shape = options.shape;
  if (shape.head_dim % 2 != 0 || shape.num_q_heads % shape.num_kv_heads != 0)
    throw cli::UsageError("--head-dim must be even, and --q-heads a multiple of --kv-heads");
}

void add_options(CLI::App& app, Raw& raw, Options& options) {
  using cli::number_in;
  const auto positive = [](int most) { return number_in(1, most, fmt::format("a whole number from 1 to {}", most)); };
  app.add_option("--contexts", raw.contexts, "prompt lengths in tokens, K and M are 2^10 and 2^20 [4K,32K]");
  app.add_option("--selector", raw.selectors, "one selector, KIND:FIELD=VALUE,.. or JSON [all, topk 2 %, lsh]")
      ->allow_extra_args(false);
  app.add_option("--baselines", raw.baselines,
                 fmt::format("methods outside the runtime: {} [none]", fmt::join(baseline_names(), ",")));
  app.add_option("--threads", raw.threads, "worker threads, a list [every core]");
  app.add_option("--batches", raw.batches, "sequences of one step, a list [1]");
  app.add_option("--host-dtypes", raw.host_dtypes,
                 "dtypes of the host rows, a list of f32, f16, bf16, int8, k8v4 [bf16]");
  app.add_option("--steps", options.steps, "timed steps [32]")
      ->check(number_in<std::int64_t>(1, 100000, "a whole number from 1 to 100000"));
  app.add_option("--error-steps", options.exact_steps, "steps compared with the exact result [4]")
      ->check(number_in<std::int64_t>(1, 100000, "a whole number from 1 to 100000"));
  app.add_option("--kv-heads", options.shape.num_kv_heads, "KV heads [8]")->check(positive(1024));
  app.add_option("--q-heads", options.shape.num_q_heads, "query heads, a multiple of the KV heads [32]")
      ->check(positive(65536));
  app.add_option("--head-dim", options.shape.head_dim, "elements of a head, even [128]")->check(positive(1024));
  app.add_option("--kind", raw.kind, fmt::format("heads: {} [mixed]", fmt::join(cli::head_kind_names(), ", ")))
      ->check(cli::one_of(cli::head_kind_names()));
  app.add_option("--query-tail", options.shape.query_tail, "prompt tokens at the end that have queries [64]")
      ->check(number_in<std::int64_t>(0, 1024, "a whole number from 0 to 1024"));
  app.add_option("--sinks", options.tiers.sinks, "first tokens that stay in the window [4]")
      ->check(number_in(0, 1 << 24, "a whole number from 0 to 2^24"));
  app.add_option("--local", options.tiers.local, "latest tokens that stay in the window [64]")
      ->check(number_in(1, 1 << 24, "a whole number from 1 to 2^24"));
  cli::add_window(app, options.window, cli::kCodecOnly);
  app.get_option("--device")->description("what holds the windows, a list of host, cuda:N [host]");
  app.add_option("--cold", options.cold, "auto, wash, rotate or warm [auto]")
      ->check(cli::one_of({"auto", "wash", "rotate", "warm"}));
  app.add_flag_callback(
      "--flush", [&options] { options.cold = "wash"; }, "the same as --cold wash");
  app.add_option("--wash-mib", options.wash_mib, "MiB to read for a wash; 0: 1.25 x the last-level cache [0]")
      ->check(number_in<std::int64_t>(0, 1 << 20, "MiB from 0 to 2^20"));
  app.add_option("--seed", options.shape.seed, "seed of the data [1]")
      ->check(number_in<std::uint64_t>(1, UINT64_MAX, "a whole number from 1"));
  app.add_flag("--never-slower", options.never_slower,
               "let the runtime attend densely where it expects a selector to take longer, as it does by default");
  cli::add_isa(app, options.isa);
  app.add_option("--json", options.json, "write the results as JSON to this file; - is standard output");
}

}  // namespace

Options parse_options(int argc, char** argv) {
  CLI::App app{"Times whole decode steps of the runtime beside their errors and their floors.", "decode_step"};
  Raw raw;
  Options options;
  options.tiers.local = 64;
  add_options(app, raw, options);
  app.footer(kHelp);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) throw cli::UsageError(cli::usage_text(app, error));
    std::exit(app.exit(error));
  }
  options.command.assign(argv, argv + argc);
  resolve(raw, options);
  return options;
}

}  // namespace tandem::bench
