#pragma once

#include "tools/plan/rates.h"
#include "tools/plan/step_settings.h"
#include "tools/plan/system.h"

namespace tandem::plan {

/// Seconds in which the host attends one layer of `sequences` sequences, all workers at work.
///
/// Where the machine's step costs were measured (they include waiting for memory), they say it all
/// (lsh::SelectionCost). Otherwise it is what takes longer: the workers' arithmetic, by the built-in step costs of
/// another processor, or moving the bytes; a selection takes at least what one worker must do of one head. A selection
/// that would take longer than attending every row is not made. MagicPIG gathers rows and reads ids of all its tables
/// for every query head, at the rate fitted for it.
double host_seconds(const System& system, const ModelShape& model, const StepSettings& settings, const StepRates& rates,
                    int sequences);

/// Host rows of a sequence and layer: what a layer sees, without the window.
double host_rows(const ModelShape& model, const StepSettings& settings) noexcept;

}  // namespace tandem::plan
