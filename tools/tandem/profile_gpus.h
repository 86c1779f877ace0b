#pragma once

#include <string>
#include <vector>

#include "tools/plan/machine.h"

namespace tandem::cli {

/// The GPUs that were measured, and sentences about those that could not be.
struct GpuReport {
  std::vector<plan::Gpu> gpus;
  std::vector<std::string> notes;
};

/// Measures every GPU that CUDA shows, one after the other. Throws Interrupted.
GpuReport measure_gpus(bool quick);

/// A table of their figures; nothing where there are none.
std::string gpus_text(const std::vector<plan::Gpu>& gpus);

}  // namespace tandem::cli
