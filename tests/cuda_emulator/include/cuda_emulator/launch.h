#pragma once
#include <functional>
#include <initializer_list>
#include <tuple>
#include <type_traits>
#include <utility>

#include "cuda_runtime_api.h"

namespace emulator {
/// Checks the launch as CUDA does and puts it into its stream. `kernel` tells kernels apart. `pointers` are those of
/// its parameters that are pointers; unless null, they must point into device memory or pinned memory, or to its end.
cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, std::initializer_list<const void*> pointers,
                   std::function<void()> thread);

template <class T>
const void* pointer_in(const T& parameter) {
  if constexpr (std::is_pointer_v<T> && !std::is_function_v<std::remove_pointer_t<T>>) return parameter;
  return nullptr;
}
}  // namespace emulator

/// Converts the arguments to the kernel's parameters and copies them at once; each thread gets copies of its own.
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments));
  static_assert((std::is_trivially_copyable_v<Parameters> && ...), "CUDA copies parameters byte by byte");
  static_assert((!std::is_reference_v<Parameters> && ...), "parameters of kernels cannot be references");
  const std::tuple<Parameters...> parameters(std::forward<Arguments>(arguments)...);
  return std::apply(
      [&](const auto&... parameter) {
        return emulator::launch(*config, reinterpret_cast<const void*>(kernel), {emulator::pointer_in(parameter)...},
                                [kernel, parameters] { std::apply(kernel, parameters); });
      },
      parameters);
}

template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute attribute, int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
