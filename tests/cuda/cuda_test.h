#pragma once

#include <gtest/gtest.h>

#include "cuda_emulator/emulator.h"

namespace tandem::testing {

/// A test on a fresh emulated machine, in each order of threads; fails where a fault or an allocation is left over.
class CudaTest : public ::testing::TestWithParam<emulator::Order> {
 protected:
  void SetUp() override {
    emulator::Config config;
    config.order = GetParam();
    emulator::reset(config);
  }
  void TearDown() override {
    EXPECT_EQ(emulator::take_fault(), "");
    EXPECT_EQ(emulator::check_leaks(), "");
  }
};

inline const auto kThreadOrders =
    ::testing::Values(emulator::Order::forward, emulator::Order::reverse, emulator::Order::random);

}  // namespace tandem::testing
