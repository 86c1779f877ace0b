#include "tools/plan/rates.h"

#include <algorithm>

#include "runtime/base/error.h"

namespace tandem::plan {
namespace {

constexpr FigureKind kAssumed = FigureKind::assumed;

struct Share {
  double value, low, high;
  const char* reason;
};

constexpr Share kDeviceReads{0.80, 0.70, 0.90, "of the peak, which streaming kernels reach on large reads"};
constexpr Share kDeviceProducts{0.50, 0.30, 0.70, "of the peak, for few rows at a time"};
constexpr Share kLink{0.80, 0.70, 0.90, "of the standard's rate, for large copies from pinned memory"};
constexpr Share kHostReads{0.75, 0.60, 0.90, "of the channels' rate, all cores reading in order"};
// Rows of 512 bytes at every 50th place: 7.2 to 9.6 of 15.2 to 16.0 GB/s, 13 to 15 of 30 with two threads.
constexpr Share kGather{0.50, 0.40, 0.63,
                        "of sequential reads, measured on one virtual machine (bench/results/2026-11-21.md)"};
constexpr Share kMagicPig{kMagicPigShareOfPeak, 0.75 * kMagicPigShareOfPeak, 1.25 * kMagicPigShareOfPeak,
                          "of all channels' rate, fitted on the published curve magicpig-k10l150"};

/// A share of a figure; the range is that of both together.
Figure share_of(const Figure& figure, const Share& share) {
  return {figure.value * share.value, figure.low * share.low, figure.high * share.high, kAssumed,
          concat(share.value, " (", share.low, " to ", share.high, ") ", share.reason)};
}

Figure times(Figure figure, double count) {
  figure.value *= count;
  figure.low *= count;
  figure.high *= count;
  return figure;
}

const Figure& needed(const std::optional<Figure>& figure, const std::string& part, const char* name) {
  TANDEM_CHECK(figure.has_value(), invalid_argument, part, " has no figure ", name,
               "; allowed: machines that have it, or a measured one in its place");
  return *figure;
}

Figure host_reads(const Cpu& cpu) {
  if (cpu.read_gb_per_s) return *cpu.read_gb_per_s;
  return share_of(needed(cpu.peak_gb_per_s, cpu.name, "peak_gb_per_s or read_gb_per_s"), kHostReads);
}

/// Rows of the host's formats take 256 to 512 bytes; short ones are gathered at the rate of short ones.
Figure gathers(const Cpu& cpu, bool short_rows) {
  const auto& measured = short_rows ? cpu.gather_256_gb_per_s : cpu.gather_512_gb_per_s;
  return measured ? *measured : share_of(host_reads(cpu), kGather);
}

Figure hand_off(const System& system, HandOff kind) {
  if (!system.gpu) return {0, 0, 0, FigureKind::published, "the host is the device", 1};
  if (kind == HandOff::callback)
    return {100, 50, 150, kAssumed, "about 100 us against 3 us for a launch (Velox, pull request 6096, RTX 3080)", 1};
  if (system.gpu->hand_off_us) return *system.gpu->hand_off_us;
  return {5, 2, 10, kAssumed, "a flag in mapped pinned memory: 2 to 10 us are commonly quoted", 1};
}

Figure layer_gap(const System& system) {
  if (!system.gpu) return {0, 0, 0, FigureKind::published, "the host is the device", 1};
  Figure gap{10, 0, 30, kAssumed, "gaps between a layer's kernels, launched ahead or as a graph", 1};
  if (system.num_gpus > 1) {
    gap.value += 30;
    gap.low += 10;
    gap.high += 100;
    gap.source += "; two sums over the GPUs, of 5 to 50 us each";
  }
  return gap;
}

Figure worker_speed(const System& system) {
  if (system.step_costs)
    return {
        1.0, 0.85, 1.1, kAssumed, "step costs were measured with all workers; work is shared unevenly, hours differ",
        1};
  return {0.85,
          0.5,
          1.5,
          kAssumed,
          "step costs of another processor, a Xeon with AVX-512; one worker to two were 1.6 to 1.9 times as fast",
          1};
}

void set_device(const System& system, RateFigures& rates) {
  const Figure nothing{1, 1, 1, FigureKind::published, "no link", 1};
  if (!system.gpu) {
    rates.device_gb_per_s = rates.host_gb_per_s;
    const double cores = system.num_workers();
    const auto& measured = system.cpu.fma_gflop_per_s;
    rates.device_tflop_per_s =
        measured ? times(*measured, 1e-3 * system.num_nodes())
                 : Figure{0.1 * cores, 0.04 * cores, 0.4 * cores, kAssumed, "0.1 (.04 to .4) TFLOP/s of a core", 1};
    rates.to_device_gb_per_s = rates.to_host_gb_per_s = nothing;
    return;
  }
  const Gpu& gpu = *system.gpu;
  const auto link = [&](const std::optional<Figure>& measured) {
    return measured ? *measured : share_of(needed(gpu.link_gb_per_s, gpu.name, "link_gb_per_s"), kLink);
  };
  rates.device_gb_per_s = times(
      gpu.read_gb_per_s ? *gpu.read_gb_per_s
                        : share_of(needed(gpu.peak_gb_per_s, gpu.name, "peak_gb_per_s or read_gb_per_s"), kDeviceReads),
      system.num_gpus);
  rates.device_tflop_per_s =
      times(share_of(needed(gpu.fp16_tflop_per_s, gpu.name, "fp16_tflop_per_s"), kDeviceProducts), system.num_gpus);
  rates.to_device_gb_per_s = times(link(gpu.to_device_gb_per_s), system.num_gpus);
  rates.to_host_gb_per_s = times(link(gpu.to_host_gb_per_s), system.num_gpus);
}

}  // namespace

RateFigures rate_figures(const System& system, const StepSettings& settings) {
  RateFigures rates;
  rates.host_gb_per_s = times(host_reads(system.cpu), system.num_nodes());
  rates.gather_gb_per_s = times(gathers(system.cpu, settings.host_dtype == DType::k8v4), system.num_nodes());
  set_device(system, rates);
  rates.layer_gap_us = layer_gap(system);
  rates.hand_off_us = hand_off(system, settings.hand_off);
  rates.worker_speed = worker_speed(system);
  const Figure& peak = system.cpu.peak_gb_per_s ? *system.cpu.peak_gb_per_s : host_reads(system.cpu);
  rates.magicpig_gb_per_s = times(share_of(peak, kMagicPig), system.num_nodes());
  rates.magicpig_layer_us =
      figure_of(kMagicPigLayerUs, 0.15, kAssumed, "fitted on the published curve magicpig-k10l150");
  rates.power_share = {0.8, 0.5, 1.0, kAssumed, "of the rated power: decoding waits for memory, not for arithmetic", 1};
  return rates;
}

StepRates rates_at(const RateFigures& f, Bound bound) noexcept {
  constexpr double kGiga = 1e9;
  constexpr double kTera = 1e12;
  constexpr double kMicro = 1e-6;
  return {.device_bytes_per_s = kGiga * rate_at(f.device_gb_per_s, bound),
          .device_flop_per_s = kTera * rate_at(f.device_tflop_per_s, bound),
          .layer_gap_s = kMicro * time_at(f.layer_gap_us, bound),
          .to_device_bytes_per_s = kGiga * rate_at(f.to_device_gb_per_s, bound),
          .to_host_bytes_per_s = kGiga * rate_at(f.to_host_gb_per_s, bound),
          .hand_off_s = kMicro * time_at(f.hand_off_us, bound),
          .host_bytes_per_s = kGiga * rate_at(f.host_gb_per_s, bound),
          .gather_bytes_per_s = kGiga * rate_at(f.gather_gb_per_s, bound),
          .worker_speed = rate_at(f.worker_speed, bound),
          .magicpig_bytes_per_s = kGiga * rate_at(f.magicpig_gb_per_s, bound),
          .magicpig_layer_s = kMicro * time_at(f.magicpig_layer_us, bound)};
}

std::vector<UsedFigure> used_figures(const RateFigures& f, const System& system, Method method) {
  std::vector<UsedFigure> used = {{"device reads", "GB/s", &f.device_gb_per_s},
                                  {"device products", "TFLOP/s", &f.device_tflop_per_s}};
  if (system.gpu) used.push_back({"gap of a layer", "us", &f.layer_gap_us});
  if (system.gpu && method != Method::gpu) used.push_back({"link to the device", "GB/s", &f.to_device_gb_per_s});
  if (!attends_on_host(method)) return used;
  if (method == Method::magicpig) {
    used.push_back({"host gathers (MagicPIG)", "GB/s", &f.magicpig_gb_per_s});
    used.push_back({"host, per layer (MagicPIG)", "us", &f.magicpig_layer_us});
    return used;
  }
  if (system.gpu) used.push_back({"hand-off", "us", &f.hand_off_us});
  used.push_back({"speed of a worker", "", &f.worker_speed});
  if (system.step_costs) return used;
  used.push_back({"host reads", "GB/s", &f.host_gb_per_s});
  if (method == Method::tandem) used.push_back({"host gathers", "GB/s", &f.gather_gb_per_s});
  return used;
}

}  // namespace tandem::plan
