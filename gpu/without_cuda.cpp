// What takes the place of the CUDA tier in a build without one.
#include "gpu/device_choice.h"
#include "runtime/base/error.h"

namespace tandem::gpu {

std::unique_ptr<Device> make_cuda_device(int ordinal, const DeviceParams& /*params*/) {
  fail(ErrorCode::unsupported, "device is cuda:", ordinal,
       "; this build of Tandem has no CUDA code: configure it with "
       "-DTANDEM_CUDA=ON and a CUDA toolkit");
}

}  // namespace tandem::gpu
