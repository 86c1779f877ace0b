// main() of tests that need a GPU: without one they say why, and CTest counts them as skipped.
#include <cstdio>

#include <gmock/gmock.h>

#include "gpu/cuda/cuda_device.h"
#include "runtime/base/error.h"

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;
  testing::InitGoogleMock(&argc, argv);
  try {
    const tandem::gpu::cuda::CudaDevice device(0, {});
    std::printf("on %s\n", device.name().c_str());
  } catch (const tandem::Error& error) {
    if (error.code() != tandem::ErrorCode::unsupported) {
      std::fprintf(stderr, "FAILED: %s\n", error.what());
      return 1;
    }
    std::printf("skipped: %s\n", error.what());
    return kSkipped;
  }
  return RUN_ALL_TESTS();
}
