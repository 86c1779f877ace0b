#pragma once

#include "tools/plan/lane_schedule.h"
#include "tools/plan/rates.h"
#include "tools/plan/step_settings.h"
#include "tools/plan/system.h"

namespace tandem::plan {

/// Seconds of the parts of one layer for some of the sequences.
struct LayerTimes {
  double before_attention = 0;  ///< device: norm, q, k and v
  double device_attention =
      0;  ///< device: window, or all tokens where the layer is dense or the method keeps them there
  double behind_attention = 0;  ///< device: merging, output, feed-forward, and the gap of a layer
  double to_host = 0;           ///< link: q
  double hand_off = 0;          ///< each way
  double host = 0;              ///< host: selecting and attending
  double host_fixed = 0;        ///< waiting: what a layer costs whatever the host does (MagicPIG)
  double to_device = 0;         ///< link: out and lse; of swap, all K and V
};

/// Of a layer whose K and V lie wholly on the device (`dense`), or not.
LayerTimes layer_times(const System& system, const ModelShape& model, const StepSettings& settings,
                       const StepRates& rates, int sequences, bool dense);

/// Seconds that the output layer takes on the device.
double output_seconds(const ModelShape& model, const StepSettings& settings, const StepRates& rates, int sequences);

/// One decode step, from the first layer to the logits, as events on lanes:
///
///   device:  before attention -> window, or all tokens -> (wait) -> merge, behind attention -> next layer
///   host:                     -> link, hand-off -> select and attend -> link, hand-off ->
///
/// With swap the link copies the next layer's K and V while a layer is attended, two layers ahead at most. With
/// ping-pong two half batches take turns on the device; each reads the weights. Without a GPU all of the device's work
/// is the host's, and nothing is handed over. Settings must be valid. Errors: as RowLayout has none, none.
Schedule simulate_step(const System& system, const ModelShape& model, const StepSettings& settings,
                       const StepRates& rates);

}  // namespace tandem::plan
