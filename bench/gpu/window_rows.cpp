#include "bench/gpu/window_rows.h"

#include <algorithm>
#include <chrono>
#include <memory>

#include <fmt/format.h>

#include "bench/gpu/cold_cache.h"
#include "bench/gpu/window_case.h"
#include "runtime/base/error.h"
#include "tools/probes/gpu/stream_timer.h"
#include "tools/tandem/interrupt.h"
#include "tools/tandem/statistics.h"

namespace tandem::bench {
namespace {

/// One format of a group of windows, and what was measured of it.
struct Contender {
  std::unique_ptr<TiledHead> head;
  std::unique_ptr<WindowCase> windows = nullptr;
  WindowCase::Error error = {};
  std::vector<double> us = {}, call_us = {};
  std::string skipped = {};
};

/// What all groups share.
struct Windows {
  const GpuTarget& target;
  gpu::Device& device;
  const GpuOptions& options;
  const probes::StreamTimer& timer;
  const ColdCache& cold;
  gpu::cuda::DeviceCodecs& codecs;
};

bool wanted(const GpuOptions& options, const std::string& name) {
  return options.formats.empty() ||
         std::find(options.formats.begin(), options.formats.end(), name) != options.formats.end();
}

/// Windows of every format that there is memory for, all at once, so that they can take turns.
std::vector<Contender> build(const Windows& shared, const std::vector<WindowFormat>& formats, std::int64_t tokens,
                             std::int64_t windows) {
  std::vector<Contender> contenders;
  for (const WindowFormat& format : formats) {
    if (!wanted(shared.options, format.name)) continue;
    cli::check_interrupt();
    Contender contender{std::make_unique<TiledHead>(format, shared.options.head_dim, tokens)};
    const TiledHead& head = *contender.head;
    try {
      shared.device.prepare(head.layout(), head.codec() ? &head.codec() : nullptr);
      contender.windows =
          std::make_unique<WindowCase>(head, windows, shared.options.group, shared.codecs, shared.target.stream);
      contender.windows->attend(shared.device);  // its memory grows now, and not within the first repetition
      contender.windows->launch(shared.target.stream);
      contender.error = contender.windows->error(shared.target.stream);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::out_of_memory && error.code() != ErrorCode::unsupported) throw;
      contender.skipped = error.what();
      contender.windows.reset();
    }
    contenders.push_back(std::move(contender));
  }
  return contenders;
}

void measure(const Windows& shared, std::vector<Contender>& contenders) {
  using Clock = std::chrono::steady_clock;
  for (std::int64_t i = 0; i < shared.options.plan.repetitions; ++i) {
    for (Contender& contender : contenders) {
      if (contender.windows == nullptr) continue;
      cli::check_interrupt();
      shared.cold.wash();
      contender.us.push_back(shared.timer.us([&] { contender.windows->launch(shared.target.stream); }));
      shared.cold.wash();
      TANDEM_CUDA_CHECK(cudaStreamSynchronize(shared.target.stream));
      const auto begin = Clock::now();
      contender.windows->attend(shared.device);
      contender.call_us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
    }
  }
}

Json name_of(const Contender& contender, std::int64_t batch) {
  return {{"name", contender.head->name()}, {"tokens", contender.head->tokens()}, {"batch", batch}, {"cold", "wash"}};
}

/// With the names that bench/compare.py looks for.
Json row_of(const Contender& contender, const GpuOptions& options, std::int64_t batch, double best_gb_per_s) {
  const TiledHead& head = *contender.head;
  Json row = name_of(contender, batch);
  const auto bytes = static_cast<double>(WindowCase::bytes(head, batch * options.kv_heads));
  const double median = cli::quantile(contender.us, 0.5);
  const double floor_us = cli::ratio(bytes, best_gb_per_s * 1000);
  row["bytes"] = bytes;
  row["us"] = quartiles_of(contender.us);
  row["call_us"] = quartiles_of(contender.call_us);
  row["gb_per_s"] = gb_per_s(bytes, median);
  row["floor_us"] = floor_us;
  row["share"] = cli::ratio(floor_us, median);
  row["error"] = {{"mean", contender.error.mean}, {"max", contender.error.max}, {"lse", contender.error.lse}};
  return row;
}

}  // namespace

Json measure_windows(const GpuTarget& target, gpu::Device& device, const GpuOptions& options, double best_gb_per_s,
                     std::int64_t wash_bytes) {
  Json rows = Json::array(), skipped = Json::array();
  const probes::StreamTimer timer(target.stream);
  const ColdCache cold(wash_bytes, target.blocks, target.stream);
  const auto formats = window_formats(options.head_dim);
  for (const std::int64_t tokens : options.contexts) {
    for (const std::int64_t batch : options.batches) {
      fmt::print(stderr, "gpu_bench: windows of {} tokens, batch {} ..\n", tokens, batch);
      gpu::cuda::DeviceCodecs codecs(target.stream);
      const Windows shared{target, device, options, timer, cold, codecs};
      auto contenders = build(shared, formats, tokens, batch * options.kv_heads);
      measure(shared, contenders);
      for (const Contender& contender : contenders) {
        if (contender.windows != nullptr) {
          rows.push_back(row_of(contender, options, batch, best_gb_per_s));
        } else {
          skipped.push_back(name_of(contender, batch));
          skipped.back()["why"] = contender.skipped;
        }
      }
    }
  }
  return {{"rows", rows}, {"skipped", skipped}};
}

}  // namespace tandem::bench
