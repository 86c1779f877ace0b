#include "tools/plan/prediction.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_message.h"
#include "tools/plan/comparison.h"

namespace tandem::plan {
namespace {

using tandem::testing::error_message;
using ::testing::HasSubstr;

const Catalog& catalog() {
  static const Catalog built_in = Catalog::built_in();
  return built_in;
}

const ModelShape& llama_8b() {
  static const ModelShape model = catalog().model("llama-3.1-8b");
  return model;
}

System system_of(const char* name) { return system_from(catalog(), name); }
const std::vector<Method> kAll(std::begin(kMethods), std::end(kMethods));

TEST(Prediction, RangesHoldTheirValues) {
  for (const auto& [name, machine] : catalog().machines()) {
    const System system = system_from(catalog(), name);
    for (const Prediction& p : predict_methods(system, llama_8b(), {.context = 32768, .batch = 0}, kAll, 2.0)) {
      for (const Estimate& e : {p.tokens_per_s, p.step_ms, *p.joules_per_token, *p.usd_per_million_tokens}) {
        EXPECT_GT(e.low, 0);
        EXPECT_LT(e.low, e.value);
        EXPECT_LT(e.value, e.high);
      }
      EXPECT_NEAR(p.tokens_per_s.value * p.step_ms.value, 1e3 * p.settings.batch, 1e-6);
      EXPECT_EQ(p.kind, FigureKind::assumed);
      EXPECT_EQ(p.max_batch, p.settings.batch);
    }
  }
}

TEST(Prediction, IsAsWellKnownAsTheWorstFigure) {
  System system = system_of("h100");
  const Figure measured{3000, 2950, 3050, FigureKind::measured, "", 3};
  system.gpu->read_gb_per_s = measured;
  EXPECT_EQ(predict(system, llama_8b(), {.method = Method::gpu}).kind, FigureKind::assumed) << "products and gaps are";
}

TEST(Prediction, JoulesAndPricesByHand) {
  const System system = system_of("h100+epyc-9654");
  const Prediction p = predict(system, llama_8b(), {.method = Method::gpu, .batch = 2}, 3.6);
  EXPECT_NEAR(p.joules_per_token->value, 0.8 * (700 + 360) / p.tokens_per_s.value, 1e-9);
  EXPECT_NEAR(p.usd_per_million_tokens->value, 1000 / p.tokens_per_s.value, 1e-9);
  System unknown = system;
  unknown.cpu.power_w.reset();
  EXPECT_FALSE(predict(unknown, llama_8b(), {.method = Method::gpu}).joules_per_token.has_value());
  EXPECT_FALSE(predict(unknown, llama_8b(), {.method = Method::gpu}).usd_per_million_tokens.has_value());
}

TEST(Prediction, MethodsThatFitFastestFirst) {
  const auto names = [](const char* machine, std::int64_t context) {
    std::vector<Method> methods;
    double last = 1e300;
    for (const Prediction& p :
         predict_methods(system_of(machine), llama_8b(), {.context = context, .batch = 0}, kAll)) {
      methods.push_back(p.settings.method);
      EXPECT_LE(p.tokens_per_s.value, last);
      last = p.tokens_per_s.value;
    }
    return methods;
  };
  EXPECT_EQ(names("a100-80", 131072).size(), 5u);
  EXPECT_THAT(names("v100-32", 131072), ::testing::Not(::testing::Contains(Method::gpu))) << "no sequence fits";
  EXPECT_THAT(names("epyc-9654", 32768), ::testing::ElementsAre(Method::tandem, Method::host_dense));
  EXPECT_THAT(names("t4", 32768), ::testing::IsEmpty()) << "the weights alone fill it";
}

TEST(Prediction, RefusesWhatNoMachineDoes) {
  EXPECT_THAT(error_message([] { (void)predict(system_of("grace"), llama_8b(), {.method = Method::gpu}); }),
              HasSubstr("needs a GPU"));
  EXPECT_THAT(error_message([] { (void)predict(system_of("h100"), llama_8b(), {.context = 200'000}); }),
              HasSubstr("context is 200000; allowed: 1 to 131072"));
}

Contender contender(const char* machine, std::int64_t context) {
  return {machine, predict_methods(system_of(machine), llama_8b(), {.context = context, .batch = 0}, kAll)};
}

TEST(Comparison, RatiosAreInverse) {
  const Contender a = contender("h100", 98304);
  const Contender b = contender("l20", 98304);
  const Estimate of = ratio(a, b);
  EXPECT_NEAR(of.value * ratio(b, a).value, 1, 1e-12);
  EXPECT_NEAR(of.low * ratio(b, a).high, 1, 1e-12);
  EXPECT_LT(of.low, of.value);
  EXPECT_LT(of.value, of.high);
  EXPECT_NEAR(ratio(a, a).value, 1, 1e-12);
}

TEST(Comparison, SaysWhatTheRangesSay) {
  const Contender a = contender("h100", 32768);
  EXPECT_THAT(verdict(a, a), HasSubstr("do not tell which is faster"));
  const Contender slow{
      "rtx-4090", predict_methods(system_of("rtx-4090"), llama_8b(), {.context = 32768, .batch = 1}, {Method::swap})};
  EXPECT_THAT(verdict(a, slow), HasSubstr("more throughout the range"));
  EXPECT_THAT(verdict(slow, a), HasSubstr("fewer throughout the range"));
  EXPECT_THAT(verdict(contender("t4", 32768), a), HasSubstr("Only h100"));
  EXPECT_THAT(verdict(a, contender("t4", 32768)), HasSubstr("Only h100"));
  EXPECT_THAT(verdict(contender("t4", 32768), contender("v100-16", 32768)), HasSubstr("Neither"));
  EXPECT_THAT(error_message([&] { (void)ratio(a, {"t4", {}}); }), HasSubstr("nothing fits on t4"));
}

}  // namespace
}  // namespace tandem::plan
