// gpu_bench: a CUDA device as the runtime uses it. bench/README.md explains.
#include <algorithm>
#include <cstdio>
#include <ctime>

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "bench/gpu/index_builds.h"
#include "bench/gpu/merges.h"
#include "bench/gpu/options.h"
#include "bench/gpu/streamed_rows.h"
#include "bench/gpu/window_rows.h"
#include "gpu/cuda/cuda_device.h"
#include "runtime/base/error.h"
#include "tools/probes/gpu/bandwidth.h"
#include "tools/tandem/command.h"
#include "tools/tandem/interrupt.h"
#include "tools/tandem/options.h"
#include "tools/tandem/table.h"

namespace tandem::bench {
namespace {

constexpr std::int64_t kUnknownL2Bytes = std::int64_t{64} << 20;

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  return text;
}

Json settings_json(const GpuOptions& options, std::int64_t wash_bytes) {
  return {{"kv_heads", options.kv_heads},
          {"group", options.group},
          {"head_dim", options.head_dim},
          {"repetitions", options.plan.repetitions},
          {"round_trips", options.plan.round_trips},
          {"cold", "wash"},
          {"wash_bytes", wash_bytes},
          {"quick", options.quick}};
}

std::string number(const Json& value) { return cli::short_number(value.get<double>()); }

std::string text_of(const Json& report) {
  cli::Table trips({"hand-off", "kernel", "median us", "p99 us"});
  for (const Json& trip : report.at("hand_offs")) {
    trips.add_row({trip.at("became").get<std::string>(), trip.at("kernel").get<bool>() ? "yes" : "no",
                   number(trip.at("us").at("median")), number(trip.at("us").at("p99"))});
  }
  cli::Table rows(
      {"window", "tokens", "batch", "read", "p25 us", "median", "p75", "call us", "GB/s", "share", "error"});
  for (const Json& row : report.at("rows")) {
    const Json& us = row.at("us");
    rows.add_row({row.at("name").get<std::string>(), fmt::format("{}", row.at("tokens").get<std::int64_t>()),
                  fmt::format("{}", row.at("batch").get<std::int64_t>()),
                  cli::human_bytes(row.at("bytes").get<double>()), number(us.at("p25")), number(us.at("median")),
                  number(us.at("p75")), number(row.at("call_us").at("median")), number(row.at("gb_per_s")),
                  number(row.at("share")), number(row.at("error").at("mean"))});
  }
  cli::Table streamed(
      {"host rows", "vectors", "copying", "streamed", "p25 us", "median", "p75", "GB/s", "share", "TFLOP/s", "error"});
  for (const Json& row : report.at("streamed")) {
    const Json& us = row.at("us");
    const auto whole = [&](const char* name) { return fmt::format("{}", row.at(name).get<std::int64_t>()); };
    streamed.add_row({whole("tokens"), whole("vectors"), whole("copying"),
                      cli::human_bytes(row.at("bytes").get<double>()), number(us.at("p25")), number(us.at("median")),
                      number(us.at("p75")), number(row.at("gb_per_s")), number(row.at("share")),
                      number(row.at("tflop_per_s")), number(row.at("error"))});
  }
  cli::Table builds({"index", "rows", "with the device us", "without"});
  for (const Json& build : report.at("index_builds")) {
    builds.add_row({build.at("name").get<std::string>(), fmt::format("{}", build.at("rows").get<std::int64_t>()),
                    number(build.at("device_us").at("median")), number(build.at("worker_us").at("median"))});
  }
  std::string skipped;
  for (const Json& row : report.at("skipped")) {
    skipped += fmt::format("skipped: {}, {} tokens, batch {}: {}\n", row.at("name").get<std::string>(),
                           row.at("tokens").get<std::int64_t>(), row.at("batch").get<std::int64_t>(),
                           row.at("why").get<std::string>());
  }
  const auto gb = [&](const char* name) { return number(report.at("bandwidth").at(name).at("gb_per_s").at("median")); };
  return fmt::format("{}{}\ncopies {} GB/s, reads {} GB/s\n\n{}\n{}\n{}{}\n{}",
                     report.at("device").at("name").get<std::string>(),
                     report.at("emulated").get<bool>() ? ", emulated: times mean nothing" : "", gb("copy"), gb("read"),
                     trips.text(), builds.text(), rows.text(), skipped, streamed.text());
}

void run(const GpuOptions& options) {
  cli::JsonOutput json(options.json);
  gpu::cuda::CudaDevice device(options.ordinal, {});  // says what is wrong where there is none
  const gpu::cuda::CurrentDevice current(options.ordinal);
  cudaDeviceProp properties;
  TANDEM_CUDA_CHECK(cudaGetDeviceProperties(&properties, options.ordinal));
  const gpu::cuda::CudaStream stream;
  const GpuTarget target{stream.get(), probes::reading_blocks(properties)};
  const std::int64_t l2 = properties.l2CacheSize > 0 ? properties.l2CacheSize : kUnknownL2Bytes;
  const std::int64_t wash_bytes = options.wash_mib > 0 ? options.wash_mib << 20 : 2 * l2;
  Json report = {{"benchmark", "gpu_bench"},
                 {"version", td_version()},
                 {"date", utc_now()},
                 {"command", options.command},
                 {"settings", settings_json(options, wash_bytes)}};
  fmt::print(stderr, "gpu_bench: {}: bandwidth, launches, hand-offs ..\n", device.name());
  report.update(probes::measure_gpu(options.ordinal, options.plan, cli::check_interrupt));
  fmt::print(stderr, "gpu_bench: merges ..\n");
  report["merges"] = measure_merges(stream.get(), options);
  fmt::print(stderr, "gpu_bench: builds of indexes ..\n");
  report["index_builds"] = measure_index_builds(device, options);
  report.update(measure_windows(target, device, options, probes::best_bandwidth(report["bandwidth"]), wash_bytes));
  double to_device = 0;
  for (const Json& size : report["bandwidth"].at("to_device"))
    to_device = std::max(to_device, size.at("gb_per_s").at("median").get<double>());
  report["streamed"] = measure_streamed_rows(device, options, to_device);
  cli::print(json, text_of(report));
  json.write(report);
  cli::finish_stdout();
}

int failed(int code, const char* message) {
  std::fprintf(stderr, "gpu_bench: %s\n", message);
  return code;
}

}  // namespace
}  // namespace tandem::bench

int main(int argc, char** argv) {
  using namespace tandem;
  constexpr int kFailed = 1;
  constexpr int kBadUsage = 2;
  constexpr int kNoDevice = 77;
  try {
    const auto options = bench::parse_gpu_options(argc, argv);
    cli::catch_interrupts();
    bench::run(options);
    return 0;
  } catch (const cli::UsageError& error) {
    return bench::failed(kBadUsage, error.what());
  } catch (const Error& error) {
    return bench::failed(error.code() == ErrorCode::invalid_argument ? kBadUsage
                         : error.code() == ErrorCode::unsupported    ? kNoDevice
                                                                     : kFailed,
                         error.what());
  } catch (const std::exception& error) {
    return bench::failed(kFailed, error.what());
  }
}
