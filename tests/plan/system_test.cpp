#include "tools/plan/system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_message.h"

namespace tandem::plan {
namespace {

using tandem::testing::error_message;
using ::testing::HasSubstr;

const Catalog& catalog() {
  static const Catalog built_in = Catalog::built_in();
  return built_in;
}

TEST(System, GpuAndCpu) {
  const System system = system_from(catalog(), "v100-32+2xxeon-8280");
  EXPECT_EQ(system.gpu->name, "v100-32");
  EXPECT_EQ(system.num_gpus, 1);
  EXPECT_EQ(system.cpu.name, "xeon-8280");
  EXPECT_EQ(system.num_cpus, 2);
  EXPECT_EQ(system.num_workers(), 56);
  EXPECT_TRUE(system.cpu_was_named);
}

TEST(System, NamesThatEndInAPlus) {
  EXPECT_EQ(system_from(catalog(), "h100+xeon-8480+").cpu.name, "xeon-8480+");
  const System system = system_from(catalog(), "2xxeon-8480++4xh100");
  EXPECT_EQ(system.cpu.name, "xeon-8480+");
  EXPECT_EQ(system.num_cpus, 2);
  EXPECT_EQ(system.num_gpus, 4);
}

TEST(System, AGpuAloneGetsTheDefaultProcessor) {
  const System system = system_from(catalog(), "t4", "2xepyc-7742");
  EXPECT_EQ(system.cpu.name, "epyc-7742");
  EXPECT_EQ(system.num_cpus, 2);
  EXPECT_FALSE(system.cpu_was_named);
  EXPECT_FALSE(system_from(catalog(), "epyc-9654").gpu.has_value());
}

TEST(System, AFileMayHavePlusesInItsName) {
  const System system = system_from(catalog(), TANDEM_DATA_DIR "/machines/xeon-8480+.json");
  EXPECT_EQ(system.cpu.name, "xeon-8480+");
}

TEST(System, RefusesWhatIsNoMachine) {
  const auto message = [](const std::string& text, const std::string& cpu = kDefaultCpu) {
    return error_message([&] { (void)system_from(catalog(), text, cpu); });
  };
  EXPECT_THAT(message(""), HasSubstr("empty part"));
  EXPECT_THAT(message("h100+h200"), HasSubstr("two kinds of GPUs"));
  EXPECT_THAT(message("grace+epyc-9654"), HasSubstr("two kinds of processors"));
  EXPECT_THAT(message("0xh100"), HasSubstr("1 to 64"));
  EXPECT_THAT(message("99999xh100"), HasSubstr("1 to 64"));
  EXPECT_THAT(message("h101"), HasSubstr("nearest: h100"));
  EXPECT_THAT(message("h100", "l20"), HasSubstr("not a processor"));
}

}  // namespace
}  // namespace tandem::plan
