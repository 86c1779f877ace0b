#include "tools/plan/step_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_message.h"

namespace tandem::plan {
namespace {

using tandem::testing::error_message;
using ::testing::HasSubstr;

ModelShape model_of(int layers) {
  ModelShape model;
  model.name = "m";
  model.num_layers = layers;
  model.max_context = 1000;
  return model;
}

std::string refused(void (*change)(StepSettings&)) {
  StepSettings settings{.context = 1000};
  change(settings);
  return error_message([&] { validate(settings, model_of(4)); });
}

TEST(StepSettings, MethodsHaveNames) {
  for (const Method method : kMethods) EXPECT_EQ(method_from(to_string(method), "method"), method);
  EXPECT_THAT(error_message([] { (void)method_from("cpu", "--method"); }),
              HasSubstr("--method is 'cpu'; allowed: gpu"));
}

TEST(StepSettings, RefusesImpossibleOnes) {
  EXPECT_EQ(refused([](StepSettings&) {}), "accepted");
  EXPECT_THAT(refused([](StepSettings& s) { s.context = 1001; }), HasSubstr("context is 1001; allowed: 1 to 1000"));
  EXPECT_THAT(refused([](StepSettings& s) { s.context = 0; }), HasSubstr("context is 0"));
  EXPECT_THAT(refused([](StepSettings& s) { s.batch = 0; }), HasSubstr("batch is 0"));
  EXPECT_THAT(refused([](StepSettings& s) { s.dense_layers = 5; }), HasSubstr("dense_layers is 5; allowed: 0 to 4"));
  EXPECT_THAT(refused([](StepSettings& s) { s.budget = 0; }), HasSubstr("budget is 0"));
  EXPECT_THAT(refused([](StepSettings& s) { s.sketch_bits = 3; }), HasSubstr("sketch_bits is 3"));
  EXPECT_THAT(refused([](StepSettings& s) { s.lsh_bits = 13; }), HasSubstr("lsh_bits is 13"));
  EXPECT_THAT(refused([](StepSettings& s) { s.lsh_tables = 0; }), HasSubstr("lsh_tables is 0"));
  EXPECT_THAT(refused([](StepSettings& s) { s.ping_pong = true; }), HasSubstr("from a batch of 2 on"));
}

TEST(StepSettings, DenseLayersAreSpreadEvenly) {
  for (const int layers : {1, 4, 7, 32})
    for (int dense = 0; dense <= layers; ++dense) {
      int count = 0;
      for (int layer = 0; layer < layers; ++layer)
        count += is_dense({.dense_layers = dense}, model_of(layers), layer) ? 1 : 0;
      EXPECT_EQ(count, dense) << layers;
    }
  const StepSettings two{.dense_layers = 2};
  EXPECT_TRUE(is_dense(two, model_of(32), 0));
  EXPECT_TRUE(is_dense(two, model_of(32), 16));
}

}  // namespace
}  // namespace tandem::plan
