#include "gpu/cuda/cuda_device.h"
#include "gpu/device_choice.h"

namespace tandem::gpu {

std::unique_ptr<Device> make_cuda_device(int ordinal, const DeviceParams& params) {
  return std::make_unique<cuda::CudaDevice>(ordinal, params);
}

}  // namespace tandem::gpu
