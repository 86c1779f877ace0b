#include "tools/probes/kernel_probes.h"

#include <set>

#include <gtest/gtest.h>

namespace tandem::probes {
namespace {

TEST(KernelProbes, MeasureDenseGatheredAndEveryCodecsWindows) {
  const auto topology = numa::Topology::detect();
  KernelProbes probes(topology, cpu::kernels_for(cpu::available_isas().back()), 2048);
  int ticks = 0;
  for (int round = 0; round < 2; ++round) probes.round([&] { ++ticks; });
  EXPECT_EQ(ticks, 2 * probes.size());
  std::set<std::string> names;
  double bf16 = 0;
  for (const KernelMeasurement& m : probes.measurements()) {
    names.insert(m.name);
    if (m.name == "dense bf16") bf16 = m.bytes_per_row;
    EXPECT_GT(m.gb_per_s.low, 0) << m.name;
    EXPECT_EQ(m.gb_per_s.samples, 2) << m.name;
    EXPECT_EQ(m.flop_per_row, 2048) << m.name;
    EXPECT_LE(m.bytes_per_row, 512) << m.name;
  }
  EXPECT_EQ(bf16, 512);
  EXPECT_EQ(static_cast<int>(names.size()), probes.size());
  for (const char* name : {"gather bf16", "window int8", "window kivi2 group 128", "window qjl256", "window nuq3"})
    EXPECT_TRUE(names.contains(name)) << name;
}

}  // namespace
}  // namespace tandem::probes
