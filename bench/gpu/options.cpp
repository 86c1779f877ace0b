#include "bench/gpu/options.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include <fmt/format.h>

#include "bench/decode_step/spec.h"
#include "bench/gpu/window_formats.h"
#include "tools/tandem/command.h"
#include "tools/tandem/options.h"
#include "tools/tandem/usage.h"
#include "tools/tandem/validators.h"

namespace tandem::bench {
namespace {

constexpr const char* kHelp =
    R"(What is measured, in this order, on one device:
  bandwidth   copies within the device (bytes read and written per second), reads alone, and copies of pinned
              host memory to the device and from it, from 4 KiB up, and of ordinary memory
  launches    what the call of an empty kernel takes the host, and what each of many in a row takes the device
  hand_offs   round trips of the three hand-offs, and of cudaStreamSynchronize: (a kernel or nothing,) signal, wait
  merges      merge_partials per number of query vectors and of partials
  rows        attention over windows of every format, bf16 rows and codecs, all KV heads of all sequences in one launch:
              us is the device's time for its kernels, call_us the host's wall clock of window_attention() and wait()
  streamed    attention of chunks of queries of one KV head over bf16 rows in host memory, which go to the device piece by
              piece: us is the host's wall clock; copied to pinned memory by one thread, and by all cores
floor_us: of windows: bytes of the windows over the bandwidth (the larger of copies and reads); of streamed rows, over the fastest of
the pinned copies to the device; share: floor_us / median.
Cold: before every launch the device reads a buffer of twice its L2 cache, so no window is found there. Formats take
turns (A B C A B C ..), repetition by repetition, and so do hand-offs. Medians and quartiles; error is |out - exact| /
|exact|, exact in double precision over what the window's codes stand for, so it says nothing about codecs.
Exit status: 0, 1 for failures, 2 for bad usage, 77 where there is no CUDA device.
Example:
  gpu_bench --device cuda:0 --contexts 4K,128K --formats bf16,kivi4_group32 --json result.json)";

/// The lists of the command line as text.
struct Raw {
  std::string device = "cuda:0", contexts = "4K,8K,16K,32K,64K,128K", batches = "1,8", chunks = "256,1024", formats;
  std::int64_t device_mib = 1024, pinned_mib = 256;
};

int ordinal_of(const std::string& text) {
  if (text == "cuda") return 0;
  const std::string prefix = "cuda:";
  const int ordinal = text.starts_with(prefix) ? cli::parse_or(std::string_view(text).substr(prefix.size()), -1) : -1;
  if (ordinal < 0) throw cli::UsageError(cli::not_allowed("--device", text, "cuda:N, N from 0"));
  return ordinal;
}

void resolve(const Raw& raw, GpuOptions& options) {
  options.ordinal = ordinal_of(raw.device);
  options.plan.device_bytes = raw.device_mib << 20;
  options.plan.pinned_bytes = raw.pinned_mib << 20;
  for (const auto& text : cli::split_list(raw.contexts)) {
    const std::int64_t tokens = cli::parse_tokens("--contexts", text);
    if (tokens < kWindowTokensStep || tokens % kWindowTokensStep != 0 || tokens > std::int64_t{1} << 24)
      throw cli::UsageError(cli::not_allowed("--contexts", text, "multiples of 128 up to 16M"));
    options.contexts.push_back(tokens);
  }
  for (const auto& text : cli::split_list(raw.batches)) {
    const auto batch = cli::parse_or<std::int64_t>(text, 0);
    if (batch < 1 || batch > 1024)
      throw cli::UsageError(cli::not_allowed("--batches", text, "whole numbers from 1 to 1024"));
    options.batches.push_back(batch);
  }
  for (const auto& text : cli::split_list(raw.chunks)) {
    const auto queries = cli::parse_or<std::int64_t>(text, 0);
    if (queries < 1 || queries > 65536)
      throw cli::UsageError(cli::not_allowed("--chunks", text, "whole numbers from 1 to 65536"));
    options.chunks.push_back(queries);
  }
  if (raw.formats.empty()) return;
  options.formats = cli::split_list(raw.formats);
  const auto known = window_format_names();
  for (const auto& name : options.formats) {
    if (std::find(known.begin(), known.end(), name) == known.end())
      throw cli::UsageError(cli::not_allowed("--formats", name, fmt::format("{}", fmt::join(known, ", "))));
  }
}

void add_options(CLI::App& app, Raw& raw, GpuOptions& options) {
  using cli::number_in;
  const auto count = [](std::int64_t most) {
    return number_in<std::int64_t>(1, most, fmt::format("a whole number from 1 to {}", most));
  };
  app.add_option("--device", raw.device, "cuda:N [cuda:0]");
  app.add_option("--contexts", raw.contexts, "tokens of a window, a list, K is 2^10 [4K to 128K]");
  app.add_option("--batches", raw.batches, "sequences of one launch, a list [1,8]");
  app.add_option("--chunks", raw.chunks, "queries over rows in host memory, a list [256,1024]");
  app.add_option("--formats", raw.formats, fmt::format("of {} [all]", fmt::join(window_format_names(), ",")));
  app.add_option("--kv-heads", options.kv_heads, "KV heads, a window each [8]")->check(count(1024));
  app.add_option("--group", options.group, "query heads of a KV head [4]")->check(count(64));
  app.add_option("--head-dim", options.head_dim, "elements of a head: 64, 128 or 256 [128]")
      ->check(cli::one_of({"64", "128", "256"}));
  app.add_option("--repetitions", options.plan.repetitions, "of bandwidths, merges and windows [60]")
      ->check(count(100000));
  app.add_option("--round-trips", options.plan.round_trips, "of each hand-off, and launches [5000]")
      ->check(count(10000000));
  app.add_option("--device-mib", raw.device_mib, "MiB of copies within the device [1024]")->check(count(1 << 20));
  app.add_option("--pinned-mib", raw.pinned_mib, "MiB of the largest copy from and to the host [256]")
      ->check(count(1 << 20));
  app.add_option("--wash-mib", options.wash_mib, "MiB read before every launch; 0: twice the L2 cache [0]")
      ->check(number_in<std::int64_t>(0, 1 << 20, "MiB from 0 to 2^20"));
  app.add_flag("--quick", options.quick, "fewer windows and repetitions, where these are not given");
  app.add_option("--json", options.json, "write the results as JSON to this file; - is standard output");
}

/// What --quick means for what the command line does not say.
void make_quick(const CLI::App& app, Raw& raw, GpuOptions& options) {
  const auto set = [&app](const char* name, auto& value, auto quick) {
    if (app.count(name) == 0) value = quick;
  };
  set("--contexts", raw.contexts, "4K,32K,128K");
  set("--batches", raw.batches, "1");
  const probes::GpuPlan quick = probes::GpuPlan::quick();
  set("--repetitions", options.plan.repetitions, quick.repetitions);
  set("--round-trips", options.plan.round_trips, quick.round_trips);
  set("--device-mib", raw.device_mib, quick.device_bytes >> 20);
  set("--pinned-mib", raw.pinned_mib, quick.pinned_bytes >> 20);
}

}  // namespace

GpuOptions parse_gpu_options(int argc, char** argv) {
  CLI::App app{"Measures a CUDA device as the runtime uses it: memory, launches, hand-offs, attention over windows.",
               "gpu_bench"};
  Raw raw;
  GpuOptions options;
  add_options(app, raw, options);
  app.footer(kHelp);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) throw cli::UsageError(cli::usage_text(app, error));
    std::exit(app.exit(error));
  }
  if (options.quick) make_quick(app, raw, options);
  options.command.assign(argv, argv + argc);
  resolve(raw, options);
  return options;
}

}  // namespace tandem::bench
