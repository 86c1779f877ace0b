#include "tools/tandem/profile_gpus.h"

#include <fmt/format.h>

#include "runtime/base/error.h"
#include "tools/plan/gpu_bench.h"
#include "tools/probes/gpu/gpu_probes.h"
#include "tools/tandem/figures_table.h"
#include "tools/tandem/interrupt.h"

namespace tandem::cli {

GpuReport measure_gpus(bool quick) {
  GpuReport report;
  const int count = probes::count_gpus();
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    const std::string name = fmt::format("cuda:{}", ordinal);
    fmt::print(stderr, "measuring {} of {} GPUs ..\n", ordinal + 1, count);
    try {
      const auto measured =
          probes::measure_gpu(ordinal, quick ? probes::GpuPlan::quick() : probes::GpuPlan{}, check_interrupt);
      report.gpus.push_back(plan::gpu_from_measurement(measured, name));
    } catch (const Error& error) {
      report.notes.push_back(fmt::format("{} could not be measured: {}", name, error.what()));
    }
  }
  return report;
}

std::string gpus_text(const std::vector<plan::Gpu>& gpus) {
  std::string text;
  for (const plan::Gpu& gpu : gpus)
    text += fmt::format("{}\n\n{}\n", gpu.title, figures_table("of the GPU", gpu, plan::kGpuFigures));
  return text;
}

}  // namespace tandem::cli
