#include "tools/plan/measured_steps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_message.h"

namespace tandem::plan {
namespace {

using tandem::testing::error_message;
using ::testing::HasSubstr;

Json result() {
  const Json row = {{"name", "sketch"},
                    {"selector", {{"kind", "sketch"}}},
                    {"tokens", 8192},
                    {"threads", 2},
                    {"batch", 4},
                    {"host_dtype", "bf16"},
                    {"us", {{"median", 500}}},
                    {"index_bytes_per_token", 26}};
  return {{"benchmark", "decode_step"},
          {"settings",
           {{"num_kv_heads", 8}, {"num_q_heads", 32}, {"head_dim", 128}, {"sink_tokens", 4}, {"local_tokens", 64}}},
          {"rows", Json::array({row})}};
}

TEST(MeasuredSteps, ReadsRows) {
  const auto steps = measured_steps_from(result(), "folder/day-decode_step-x.json");
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_EQ(steps[0].file, "day-decode_step-x");
  EXPECT_EQ(steps[0].tokens, 8192);
  EXPECT_EQ(steps[0].window, 68);
  EXPECT_EQ(steps[0].two_bit_heads, 0.5) << "26 bytes lie between 18 and 34";
  EXPECT_FALSE(steps[0].is_for_fitting());
}

TEST(MeasuredSteps, LeavesOutWhatCostsCannotTell) {
  Json other = result();
  other["rows"][0]["selector"]["kind"] = "faiss-flat";
  EXPECT_TRUE(measured_steps_from(other, "x").empty());
  other["rows"][0]["selector"] = {{"kind", "sketch"}, {"error", 0.1}};
  EXPECT_TRUE(measured_steps_from(other, "x").empty()) << "what an error takes depends on the data";
}

TEST(MeasuredSteps, RefusesOtherFiles) {
  const auto message = [](const Json& object) {
    return error_message([&] { (void)measured_steps_from(object, "x.json"); });
  };
  EXPECT_THAT(message(Json::object()), HasSubstr("x.json is not a result of decode_step"));
  Json other = result();
  other["benchmark"] = "run";
  EXPECT_THAT(message(other), HasSubstr("x.json.benchmark is \"run\""));
  other = result();
  other["rows"][0]["us"]["median"] = 0;
  EXPECT_THAT(message(other), HasSubstr("x.json.rows[0] has"));
  other = result();
  other["rows"][0].erase("tokens");
  EXPECT_THAT(message(other), HasSubstr("x.json is not a result"));
  EXPECT_THAT(error_message([] { (void)load_measured_steps("no/folder"); }, ErrorCode::io), HasSubstr("no/folder"));
  EXPECT_THAT(error_message([] { (void)fit_step_costs({}); }), HasSubstr("only 0 measured steps"));
}

TEST(MeasuredSteps, MoreWorkersAreFasterAndMoreSequencesSlower) {
  MeasuredStep step = measured_steps_from(result(), "x")[0];
  const double before = predicted_us(step, {});
  step.threads = 4;
  EXPECT_NEAR(predicted_us(step, {}), before / 2, 1e-9);
  step.batch = 8;
  EXPECT_NEAR(predicted_us(step, {}), before, 1e-9);
}

}  // namespace
}  // namespace tandem::plan
