#pragma once

#include <vector>

#include "tools/plan/estimate.h"
#include "tools/plan/step_settings.h"
#include "tools/plan/system.h"

namespace tandem::plan {

/// What a system's parts do per second in a decode step. Every figure is measured, where the machine's profile has it,
/// or follows from what the makers publish and from an assumed share of it, with its range and reason: this is the one
/// place where figures become rates. Of all GPUs and all NUMA nodes together, 1e9 bytes; where there is no GPU the
/// processors are the device.
struct RateFigures {
  Figure device_gb_per_s;     ///< weights, K and V that the device reads
  Figure device_tflop_per_s;  ///< matrix products
  Figure layer_gap_us;        ///< what a layer takes beside its work: gaps between kernels, sums over GPUs
  Figure to_device_gb_per_s, to_host_gb_per_s;
  Figure hand_off_us;        ///< until one side knows that the other has finished
  Figure host_gb_per_s;      ///< rows and codes that the host reads in order
  Figure gather_gb_per_s;    ///< rows that it gathers
  Figure worker_speed;       ///< of a worker, in those that the step costs were measured with, idle ones included
  Figure magicpig_gb_per_s;  ///< what MagicPIG's host side gathers
  Figure magicpig_layer_us;  ///< what it takes per layer beside that
  Figure power_share;        ///< of the rated power while decoding
};

RateFigures rate_figures(const System& system, const StepSettings& settings);

/// The same in SI units, when all figures are as expected, at their worst bound, or at their best.
struct StepRates {
  double device_bytes_per_s = 1, device_flop_per_s = 1, layer_gap_s = 0;
  double to_device_bytes_per_s = 1, to_host_bytes_per_s = 1, hand_off_s = 0;
  double host_bytes_per_s = 1, gather_bytes_per_s = 1, worker_speed = 1;
  double magicpig_bytes_per_s = 1, magicpig_layer_s = 0;
};
StepRates rates_at(const RateFigures& figures, Bound bound) noexcept;

/// A figure that a method's time depends on, for tables.
struct UsedFigure {
  const char* name;
  const char* unit;
  const Figure* figure;  ///< of the RateFigures asked for
};
std::vector<UsedFigure> used_figures(const RateFigures& figures, const System& system, Method method);

/// The share of all nodes' peak bandwidth that MagicPIG's host side reaches, and its time per layer: fitted on the
/// published curve of one machine (`tandem plan validate` fits again and says so), taken over for every other one.
inline constexpr double kMagicPigShareOfPeak = 0.0916;
inline constexpr double kMagicPigLayerUs = 613;

}  // namespace tandem::plan
