#pragma once

#include <gtest/gtest.h>

#if defined(TANDEM_CUDA_EMULATED)
#include "cuda_emulator/emulator.h"
#else
#include <cuda_runtime_api.h>
#endif

namespace tandem::testing {

#if defined(TANDEM_CUDA_EMULATED)

/// A test on a fresh emulated machine, in each order of threads; fails where a fault or an allocation is left over.
class CudaTest : public ::testing::TestWithParam<emulator::Order> {
 protected:
  void SetUp() override { start({}); }
  void TearDown() override {
    EXPECT_EQ(emulator::take_fault(), "");
    EXPECT_EQ(emulator::check_leaks(), "");
  }
  /// Of devices without bf16 tensor cores.
  void start_older() {
    emulator::Config config;
    config.compute_capability_major = 7;
    start(config);
  }

 private:
  static void start(emulator::Config config) {
    config.order = GetParam();
    emulator::reset(config);
  }
};

/// Tensor cores round sums towards 0 instead of to nearest: errors of what they do may be larger by this on a GPU.
inline constexpr double kTensorCoreErrors = 1;

inline const auto kThreadOrders =
    ::testing::Values(emulator::Order::forward, emulator::Order::reverse, emulator::Order::random);

#else

/// The order in which a GPU runs threads is its own.
enum class GpuOrder { any };

/// A test on the first GPU; fails where it leaves an error behind.
class CudaTest : public ::testing::TestWithParam<GpuOrder> {
 protected:
  void TearDown() override {
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  }
  static void start_older() { GTEST_SKIP() << "older devices than the one that is here are emulated only"; }
};

inline constexpr double kTensorCoreErrors = 4;

inline const auto kThreadOrders = ::testing::Values(GpuOrder::any);

#endif

}  // namespace tandem::testing
