#pragma once
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "cuda_emulator/emulator.h"
#include "cuda_runtime.h"

namespace emulator {

/// A test on a fresh machine; fails where a fault is left over that it has not taken.
class EmulatorTest : public testing::Test {
 protected:
  void SetUp() override { reset(); }
  void TearDown() override { EXPECT_EQ(take_fault(), ""); }
};

/// Runs `kernel` on a stream of its own and waits for it; the fault that it ends with, or nothing.
template <class... Parameters, class... Arguments>
std::string run_kernel(dim3 grid, dim3 block, std::size_t shared_bytes, void (*kernel)(Parameters...),
                       Arguments&&... arguments) {
  cudaStream_t stream = nullptr;
  EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  const cudaLaunchConfig_t config{grid, block, shared_bytes, stream, nullptr, 0};
  cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
  cudaStreamSynchronize(stream);
  cudaStreamDestroy(stream);
  return take_fault();
}

}  // namespace emulator
