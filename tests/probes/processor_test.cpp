#include "tools/probes/processor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::probes {
namespace {

TEST(Processor, HasAShortName) {
  EXPECT_EQ(short_name("Intel(R) Xeon(R) Platinum 8480+"), "xeon-8480+");
  EXPECT_EQ(short_name("Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz"), "xeon-6226r");
  EXPECT_EQ(short_name("INTEL(R) XEON(R) PLATINUM 8581C CPU @ 2.60GHz"), "xeon-8581c");
  EXPECT_EQ(short_name("AMD EPYC 9654 96-Core Processor"), "epyc-9654");
  EXPECT_EQ(short_name("AMD Ryzen 9 7950X 16-Core Processor"), "ryzen-9-7950x");
  EXPECT_EQ(short_name("Intel(R) Core(TM) i9-13900K"), "i9-13900k");
}

TEST(Processor, IsNamedByItsWholeTitleWhereThatHasNoModel) {
  EXPECT_EQ(short_name("Intel(R) Xeon(R) Processor"), "intel-xeon-processor");
  EXPECT_EQ(short_name("Neoverse//V"), "neoverse-v");
  EXPECT_EQ(short_name(""), "host");
  EXPECT_EQ(short_name("(R) ///"), "host");
}

TEST(Processor, OfThisMachineAndItsKernelHaveNames) {
  EXPECT_THAT(short_name(processor_title()), testing::MatchesRegex("[a-z0-9+-]+"));
  EXPECT_FALSE(kernel_release().empty());
}

}  // namespace
}  // namespace tandem::probes
