// What takes the place of the GPU's probes in a build without CUDA.
#include "runtime/base/error.h"
#include "tools/probes/gpu/gpu_probes.h"

namespace tandem::probes {

int count_gpus() noexcept { return 0; }

Json measure_gpu(int ordinal, const GpuPlan& /*plan*/, const std::function<void()>& /*tick*/) {
  fail(ErrorCode::unsupported, "device is cuda:", ordinal, "; this build of Tandem has no CUDA code");
}

}  // namespace tandem::probes
