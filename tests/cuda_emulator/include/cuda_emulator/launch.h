#pragma once
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "cuda_runtime_api.h"

namespace emulator {
/// Checks the launch as CUDA does and puts it into its stream. `kernel` tells kernels apart.
cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> thread);
}  // namespace emulator

/// Converts the arguments to the kernel's parameters and copies them at once; each thread gets copies of its own.
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments));
  static_assert((std::is_trivially_copyable_v<std::decay_t<Parameters>> && ...), "CUDA copies parameters byte by byte");
  static_assert((!std::is_reference_v<Parameters> && ...), "parameters of kernels cannot be references");
  std::tuple<std::decay_t<Parameters>...> parameters(std::forward<Arguments>(arguments)...);
  return emulator::launch(*config, reinterpret_cast<const void*>(kernel),
                          [kernel, parameters] { std::apply(kernel, parameters); });
}

template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute attribute, int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
