#include "gpu/device.h"

#include "runtime/base/error.h"

namespace tandem::gpu {

DeviceBuffer::DeviceBuffer(Device& device, std::int64_t bytes, int node)
    : device_(&device), data_(device.allocate(bytes, node)), bytes_(bytes) {}

DeviceBuffer::~DeviceBuffer() {
  if (data_ != nullptr) device_->release(data_, bytes_);
}

void Device::check_tensor(const char* tensor, const void* /*data*/, CallerStream /*caller*/) const {
  fail(ErrorCode::invalid_argument, tensor, ".memory is 1 (TD_MEMORY_DEVICE), but the runtime's device is ", name(),
       "; allowed with it: 0 (TD_MEMORY_HOST)");
}

// Nobody has a tensor that this device has accepted.
void Device::fetch(const TensorFetch* /*tensors*/, std::int64_t /*count*/, CallerStream /*caller*/) {}
void Device::put(const TensorPut* /*tensors*/, std::int64_t /*count*/, CallerStream /*caller*/) {}

}  // namespace tandem::gpu
