// Runtimes on a GPU, through the C ABI.
#include "tests/cuda/runtime_life.h"

namespace c_api {
namespace {

class GpuRuntime : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(HandOffs, GpuRuntime, testing::Values("flag", "host_call", "event"));

TEST_P(GpuRuntime, AgreesWithTheHost) {
  const Rt host(on("host"));
  const std::vector<float> expected = life(host);
  td_config c = on("cuda:0");
  c.hand_off = GetParam();
  const Rt rt(c);
  for (int round = 0; round < 20; ++round) {
    const std::vector<float> outputs = life(rt);
    ASSERT_EQ(outputs.size(), expected.size());
    for (std::size_t i = 0; i < outputs.size(); ++i) ASSERT_NEAR(outputs[i], expected[i], 2e-6) << round << " " << i;
  }
}

}  // namespace
}  // namespace c_api
