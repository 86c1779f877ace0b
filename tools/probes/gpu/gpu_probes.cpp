#include "tools/probes/gpu/gpu_probes.h"

#include "gpu/cuda/cuda_device.h"
#include "runtime/base/error.h"
#include "tools/probes/gpu/bandwidth.h"
#include "tools/probes/gpu/hand_offs.h"

namespace tandem::probes {
namespace {

#if defined(TANDEM_CUDA_EMULATED)
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif

std::string version_text(int version) { return concat(version / 1000, ".", version % 1000 / 10); }

Json device_json(int ordinal, const cudaDeviceProp& properties) {
  int driver = 0, runtime = 0;
  TANDEM_CUDA_CHECK(cudaDriverGetVersion(&driver));
  TANDEM_CUDA_CHECK(cudaRuntimeGetVersion(&runtime));
  return {{"ordinal", ordinal},
          {"name", properties.name},
          {"compute_capability", concat(properties.major, ".", properties.minor)},
          {"multiprocessors", properties.multiProcessorCount},
          {"memory_bytes", properties.totalGlobalMem},
          {"l2_bytes", properties.l2CacheSize},
          {"memory_bus_bits", properties.memoryBusWidth},
          {"driver_cuda", version_text(driver)},
          {"runtime_cuda", version_text(runtime)}};
}

}  // namespace

int count_gpus() noexcept {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  (void)cudaGetLastError();
  return 0;
}

Json measure_gpu(int ordinal, const GpuPlan& plan, const std::function<void()>& tick) {
  const gpu::cuda::CudaDevice device(ordinal, {});  // says what is wrong where there is none
  const gpu::cuda::CurrentDevice current(ordinal);
  cudaDeviceProp properties;
  TANDEM_CUDA_CHECK(cudaGetDeviceProperties(&properties, ordinal));
  const gpu::cuda::CudaStream stream;
  Json result = {{"emulated", kEmulated}, {"device", device_json(ordinal, properties)}};
  result["bandwidth"] = measure_bandwidth(stream.get(), reading_blocks(properties), plan, tick);
  result["launches"] = measure_launches(stream.get(), plan);
  result["hand_offs"] = measure_hand_offs(stream.get(), plan, tick);
  return result;
}

}  // namespace tandem::probes
