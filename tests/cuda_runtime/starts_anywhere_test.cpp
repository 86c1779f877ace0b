#include <string>
#include <vector>

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <link.h>

#include "gpu/cuda/kernels/work.cuh"
#include "gpu/cuda/launchers.h"
#include "runtime/base/error.h"

namespace tandem::gpu::cuda {
namespace {

int add_name(dl_phdr_info* object, std::size_t, void* names) {
  static_cast<std::vector<std::string>*>(names)->emplace_back(object->dlpi_name);
  return 0;
}

/// What the loader found necessary to start this program: no test calls CUDA before main().
const std::vector<std::string> kLoadedAtStart = [] {
  std::vector<std::string> names;
  dl_iterate_phdr(&add_name, &names);
  return names;
}();

bool has_device() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();
  EXPECT_THAT(status, testing::AnyOf(cudaSuccess, cudaErrorNoDevice, cudaErrorInsufficientDriver));
  return status == cudaSuccess && count > 0;
}

TEST(StartsAnywhere, NeedsNoLibraryOfCuda) {
  EXPECT_GT(kLoadedAtStart.size(), 2u);
  EXPECT_THAT(kLoadedAtStart, testing::Each(testing::Not(testing::HasSubstr("libcuda"))));
}

TEST(StartsAnywhere, RuntimeIsThatOfTheCompiler) {
  int version = 0;
  ASSERT_EQ(cudaRuntimeGetVersion(&version), cudaSuccess);
  EXPECT_EQ(version, CUDART_VERSION);
}

TEST(StartsAnywhere, LaunchWithoutDeviceIsAnError) {
  if (has_device()) GTEST_SKIP() << "there is a device here";
  try {
    launch_move_runs(nullptr, 1, nullptr);
    ADD_FAILURE() << "a kernel was launched on no device";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::device_lost);
  }
}

}  // namespace
}  // namespace tandem::gpu::cuda
