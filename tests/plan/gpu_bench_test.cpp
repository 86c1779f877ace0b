#include "tools/plan/gpu_bench.h"

#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_message.h"

namespace tandem::plan {
namespace {

Json spread(double median) {
  return {{"p25", median * 0.9}, {"median", median}, {"p75", median * 1.1}, {"samples", 9}};
}

Json result() {
  return {{"benchmark", "gpu_bench"},
          {"emulated", false},
          {"device", {{"name", "NVIDIA A100-SXM4-40GB"}, {"memory_bytes", 42'285'268'992LL}}},
          {"bandwidth",
           {{"copy", {{"bytes", 1 << 30}, {"gb_per_s", spread(1300)}}},
            {"read", {{"bytes", 1 << 30}, {"gb_per_s", spread(1400)}}},
            {"to_device", {{{"bytes", 4096}, {"gb_per_s", spread(1)}}, {{"bytes", 1 << 26}, {"gb_per_s", spread(25)}}}},
            {"to_host", {{{"bytes", 1 << 26}, {"gb_per_s", spread(24)}}}}}},
          {"launches", {{"call_us", spread(3)}}},
          {"hand_offs",
           {{{"became", "event"}, {"kernel", true}, {"us", spread(20)}},
            {{"became", "flag"}, {"kernel", false}, {"us", spread(4)}},
            {{"became", "flag"}, {"kernel", true}, {"us", spread(9)}}}}};
}

TEST(GpuBench, BecomesFiguresThatAMachineTakes) {
  const Gpu gpu = gpu_from_bench(result(), "bench.json");
  EXPECT_EQ(gpu.name, "nvidia-a100-sxm4-40gb");
  EXPECT_NEAR(gpu.memory_gb->value, 42.285, 0.001);
  EXPECT_EQ(gpu.read_gb_per_s->value, 1400);
  EXPECT_NEAR(gpu.read_gb_per_s->low, 1260, 1e-6);
  EXPECT_EQ(gpu.copy_gb_per_s->value, 1300);
  EXPECT_EQ(gpu.to_device_gb_per_s->value, 25);  // of the largest copies
  EXPECT_EQ(gpu.to_host_gb_per_s->value, 24);
  EXPECT_FALSE(gpu.pageable_to_host_gb_per_s.has_value());  // which older results do not have
  EXPECT_EQ(gpu.launch_us->value, 3);
  EXPECT_EQ(gpu.hand_off_us->value, 9);  // by flag, after a kernel
  Machine machine;
  machine.name = "here";
  machine.gpus = {gpu};
  EXPECT_EQ(machine_from(to_json(machine), "machine").gpus.front().to_host_gb_per_s, gpu.to_host_gb_per_s);
}

TEST(GpuBench, ResultsMayHaveCopiesOfOrdinaryMemory) {
  Json json = result();
  json["bandwidth"]["pageable_to_device"] = {{{"bytes", 1 << 26}, {"gb_per_s", spread(9)}}};
  json["bandwidth"]["pageable_to_host"] = {{{"bytes", 1 << 26}, {"gb_per_s", spread(7)}}};
  const Gpu gpu = gpu_from_bench(json, "bench.json");
  EXPECT_EQ(gpu.pageable_to_device_gb_per_s->value, 9);
  EXPECT_EQ(gpu.pageable_to_host_gb_per_s->value, 7);
  json["bandwidth"].erase("pageable_to_host");
  EXPECT_THAT(testing::error_message([&] { gpu_from_bench(json, "bench.json"); }),
              ::testing::HasSubstr("pageable_to_host is missing"));
}

TEST(GpuBench, RefusesWhatItCannotRead) {
  const auto refused = [](const std::function<void(Json&)>& change) {
    Json json = result();
    change(json);
    return testing::error_message([&] { gpu_from_bench(json, "bench.json"); });
  };
  EXPECT_THAT(refused([](Json& json) { json["emulated"] = true; }), ::testing::HasSubstr("bench.json.emulated"));
  EXPECT_THAT(refused([](Json& json) { json["benchmark"] = "decode_step"; }), ::testing::HasSubstr("benchmark"));
  EXPECT_THAT(refused([](Json& json) { json.erase("launches"); }), ::testing::HasSubstr("launches is missing"));
  EXPECT_THAT(refused([](Json& json) { json["bandwidth"]["to_host"] = Json::array(); }),
              ::testing::HasSubstr("to_host"));
  EXPECT_THAT(refused([](Json& json) { json["bandwidth"]["read"]["gb_per_s"]["median"] = -1; }),
              ::testing::HasSubstr("median is -1"));
  EXPECT_THAT(refused([](Json& json) { json["device"]["name"] = 3; }), ::testing::HasSubstr("device.name is 3"));
  EXPECT_THAT(refused([](Json& json) { json = 3; }), ::testing::HasSubstr("gpu_bench"));
}

}  // namespace
}  // namespace tandem::plan
