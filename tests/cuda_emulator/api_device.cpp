#include <cstdio>
#include <cstring>

#include "capture.h"
#include "cuda_runtime_api.h"
#include "memory.h"
#include "stream.h"

namespace {

// An H100, but for the memory.
constexpr int kMinor = 0;
constexpr int kMultiprocessors = 132;
constexpr int kSharedBytes = 48 << 10;
constexpr int kSharedBytesOptin = 227 << 10;
constexpr int kSharedBytesMultiprocessor = 228 << 10;

void require_device(int device) {
  if (device < 0 || device >= emulator::config().num_devices) throw emulator::Refusal{cudaErrorInvalidDevice, {}};
}

int attribute_of(cudaDeviceAttr attribute, int device) {
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      return 1024;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      return kSharedBytes;
    case cudaDevAttrWarpSize:
      return 32;
    case cudaDevAttrMultiProcessorCount:
      return kMultiprocessors;
    case cudaDevAttrPciBusId:
      return device + 1;
    case cudaDevAttrPciDeviceId:
    case cudaDevAttrPciDomainId:
      return 0;
    case cudaDevAttrCanMapHostMemory:
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrCanUseHostPointerForRegisteredMem:
      return 1;
    case cudaDevAttrComputeCapabilityMajor:
      return emulator::config().compute_capability_major;
    case cudaDevAttrComputeCapabilityMinor:
      return kMinor;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      return kSharedBytesMultiprocessor;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return kSharedBytesOptin;
  }
  throw emulator::Refusal{cudaErrorInvalidValue, "an attribute that is not emulated"};
}

}  // namespace

using namespace emulator;

cudaError_t cudaDriverGetVersion(int* version) {
  *version = config().driver_version;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  const cudaError_t error = before_call("cudaGetDeviceCount");
  if (error == cudaSuccess) *count = config().num_devices;
  return remember(error);
}

cudaError_t cudaSetDevice(int device) {
  cudaError_t error = before_call("cudaSetDevice");  // threads can leave a lost device
  if (error == cudaSuccess) {
    error = guarded("cudaSetDevice", [&]() -> cudaError_t {
      require_device(device);
      current_device() = device;
      return sticky_error(device);
    });
  }
  return remember(error);
}

cudaError_t cudaGetDevice(int* device) {
  return api_call("cudaGetDevice", [&] {
    *device = current_device();
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceSynchronize() {
  return api_call("cudaDeviceSynchronize", [&]() -> cudaError_t {
    refuse_unsafe_call();
    wait_for_streams(current_device());
    return sticky_error(current_device());
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return api_call("cudaGetDeviceProperties", [&] {
    require_device(device);
    *properties = {};
    std::snprintf(properties->name, sizeof(properties->name), "Emulated device %d", device);
    properties->totalGlobalMem = config().device_bytes;
    properties->sharedMemPerBlock = kSharedBytes;
    properties->sharedMemPerBlockOptin = kSharedBytesOptin;
    properties->sharedMemPerMultiprocessor = kSharedBytesMultiprocessor;
    properties->regsPerBlock = 65536;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = 1024;
    properties->maxGridSize[0] = 0x7fffffff;
    properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
    properties->major = config().compute_capability_major;
    properties->minor = kMinor;
    properties->multiProcessorCount = kMultiprocessors;
    properties->canMapHostMemory = properties->unifiedAddressing = 1;
    properties->l2CacheSize = 50 << 20;
    properties->memoryBusWidth = 5120;
    properties->pciBusID = device + 1;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return api_call("cudaDeviceGetAttribute", [&] {
    require_device(device);
    *value = attribute_of(attribute, device);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int bytes, int device) {
  return api_call("cudaDeviceGetPCIBusId", [&] {
    require_device(device);
    std::snprintf(text, static_cast<std::size_t>(bytes), "0000:%02x:00.0", static_cast<unsigned>(device + 1));
    return cudaSuccess;
  });
}

cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes) {
  return api_call("cudaMemGetInfo", [&] {
    *total_bytes = config().device_bytes;
    *free_bytes = *total_bytes - device_bytes(current_device());
    return cudaSuccess;
  });
}
