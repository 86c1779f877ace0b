#include "tools/probes/gpu/gpu_probes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_message.h"
#include "tools/plan/gpu_bench.h"

namespace tandem::probes {
namespace {

constexpr GpuPlan kTiny{3, 4, std::int64_t{1} << 20, std::int64_t{1} << 18};

TEST(GpuProbes, MeasureEveryDeviceThatThereIs) {
  ASSERT_GE(count_gpus(), 1);
  int ticks = 0;
  const Json measured = measure_gpu(count_gpus() - 1, kTiny, [&ticks] { ++ticks; });
  EXPECT_GE(ticks, kTiny.repetitions);
  EXPECT_EQ(measured["device"]["ordinal"], count_gpus() - 1);
  EXPECT_EQ(measured["bandwidth"]["pageable_to_host"].size(), 1);
  EXPECT_EQ(measured["bandwidth"]["pageable_to_device"][0]["gb_per_s"]["samples"], kTiny.repetitions);
}

TEST(GpuProbes, MeasurementsOfADeviceBecomeFiguresAndThoseOfTheEmulatorDoNot) {
  Json measured = measure_gpu(0, kTiny, [] {});
  EXPECT_THAT(testing::error_message([&] { plan::gpu_from_measurement(measured, "cuda:0"); }),
              ::testing::HasSubstr("cuda:0.emulated is not false"));
  measured["emulated"] = false;
  const plan::Gpu gpu = plan::gpu_from_measurement(measured, "cuda:0");
  for (const auto& figure :
       {gpu.memory_gb, gpu.read_gb_per_s, gpu.copy_gb_per_s, gpu.to_device_gb_per_s, gpu.to_host_gb_per_s,
        gpu.pageable_to_device_gb_per_s, gpu.pageable_to_host_gb_per_s, gpu.launch_us, gpu.hand_off_us}) {
    ASSERT_TRUE(figure.has_value());
    EXPECT_GT(figure->value, 0);
  }
}

TEST(GpuProbes, StopWhenTheyAreToldTo) {
  EXPECT_THROW(measure_gpu(0, kTiny, [] { throw std::runtime_error("enough"); }), std::runtime_error);
  (void)measure_gpu(0, kTiny, [] {});  // and leave the device as it was
}

TEST(GpuProbes, RefuseADeviceThatThereIsNot) {
  EXPECT_THAT(testing::error_message([] { measure_gpu(99, kTiny, [] {}); }), ::testing::HasSubstr("cuda:99"));
}

}  // namespace
}  // namespace tandem::probes
