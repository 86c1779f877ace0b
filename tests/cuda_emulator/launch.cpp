#include "cuda_emulator/launch.h"

#include <map>
#include <mutex>
#include <utility>

#include "capture.h"
#include "kernel.h"
#include "memory.h"
#include "stream.h"

namespace emulator {
namespace {

constexpr int kDefaultSharedBytes = 48 << 10;
constexpr int kMaxSharedBytes = 227 << 10;

/// What cudaFuncSetAttribute has allowed, by kernel and device.
struct SharedLimits {
  std::mutex mutex;
  std::map<std::pair<const void*, int>, int> bytes;
};

SharedLimits& shared_limits() {
  static auto& limits = *new SharedLimits;
  return limits;
}

std::size_t shared_limit(const void* kernel) {
  const std::lock_guard lock(shared_limits().mutex);
  const auto found = shared_limits().bytes.find({kernel, current_device()});
  return static_cast<std::size_t>(found == shared_limits().bytes.end() ? kDefaultSharedBytes : found->second);
}

cudaError_t check_launch(const cudaLaunchConfig_t& config, const void* kernel) {
  const dim3& grid = config.gridDim;
  const dim3& block = config.blockDim;
  if (config.numAttrs != 0) throw Refusal{cudaErrorNotSupported, "launch attributes are not emulated"};
  const bool grid_fits =
      grid.x >= 1 && grid.x <= 0x7fffffffu && grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 && grid.z <= 65535;
  const bool block_fits = block.x >= 1 && block.x <= 1024 && block.y >= 1 && block.y <= 1024 && block.z >= 1 &&
                          block.z <= 64 && block.x * block.y * block.z <= 1024;
  if (!grid_fits || !block_fits) return cudaErrorInvalidConfiguration;
  return config.dynamicSmemBytes > shared_limit(kernel) ? cudaErrorInvalidValue : cudaSuccess;
}

void run_kernel(const Grid& grid, const std::function<void()>& thread) {
  if (const cudaError_t planned = planned_failure("kernel"); planned != cudaSuccess) throw DeviceFailure{planned};
  run_grid(grid, config(), thread);
  check_guards();
}

}  // namespace

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, std::initializer_list<const void*> pointers,
                   std::function<void()> thread) {
  return api_call("cudaLaunchKernelEx", [&] {
    const auto stream = working_stream(config.stream);
    if (stream->device() != current_device()) {
      throw Refusal{cudaErrorInvalidResourceHandle, "the stream belongs to another device than the current one"};
    }
    for (const void* pointer : pointers) {
      if (pointer != nullptr) require_mapped(pointer, 0, "what a parameter points to");
    }
    const cudaError_t error = check_launch(config, kernel);
    if (error != cudaSuccess) return error;
    const Grid grid{config.gridDim, config.blockDim, config.dynamicSmemBytes, stream->device()};
    submit(stream, [grid, thread = std::move(thread)] { run_kernel(grid, thread); });
    return cudaSuccess;
  });
}

}  // namespace emulator

using namespace emulator;

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  return api_call("cudaFuncSetAttribute", [&] {
    const bool known = attribute == cudaFuncAttributeMaxDynamicSharedMemorySize;
    if (!known || value < 0 || value > kMaxSharedBytes) return cudaErrorInvalidValue;
    const std::lock_guard lock(shared_limits().mutex);
    shared_limits().bytes[{function, current_device()}] = value;
    return cudaSuccess;
  });
}
