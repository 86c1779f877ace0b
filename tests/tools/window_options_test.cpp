#include "tools/tandem/window_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/tandem/command.h"
#include "tools/tandem/filler_text.h"

namespace tandem::cli {
namespace {

TEST(PolicyText, EveryFormIsItsPolicy) {
  EXPECT_EQ(parse_policy("", "latest").policy.kind, TD_POLICY_LATEST);
  EXPECT_EQ(parse_policy("", "latest").policy.compact_sinks, 0);
  const auto streaming = parse_policy("", "streaming");
  EXPECT_EQ(streaming.policy.kind, TD_POLICY_LATEST);
  EXPECT_EQ(streaming.policy.compact_sinks, 1);
  EXPECT_TRUE(streaming.without_host);
  EXPECT_EQ(parse_policy("", "h2o:96").policy.kind, TD_POLICY_HEAVY_HITTERS);
  EXPECT_EQ(parse_policy("", "h2o:96").policy.kept_tokens, 96);
  const auto threshold = parse_policy("", "threshold:64,-0.5").policy;
  EXPECT_EQ(threshold.kind, TD_POLICY_THRESHOLD);
  EXPECT_EQ(threshold.kept_tokens, 64);
  EXPECT_EQ(threshold.threshold, -0.5);
  EXPECT_EQ(parse_policy("", "dmc").policy.decisions, TD_DECISIONS_LAST_NEURON);
}

TEST(PolicyText, OnlyPoliciesThatScoreNeedTheAttention) {
  EXPECT_FALSE(parse_policy("", "latest").scores_attention());
  EXPECT_FALSE(parse_policy("", "streaming").scores_attention());
  EXPECT_FALSE(parse_policy("", "dmc").scores_attention());
  EXPECT_TRUE(parse_policy("", "h2o:1").scores_attention());
  EXPECT_TRUE(parse_policy("", "threshold:1,0").scores_attention());
}

TEST(PolicyText, RefusalsNameTheFieldTheTextAndWhatIsAllowed) {
  for (const char* text :
       {"", ":", "h2o", "h2o:", "h2o:0", "h2o:-3", "h2o:8,9", "h2o:many", "threshold:8", "threshold:8,",
        "threshold:0,1", "threshold:8,nan", "threshold:8,1,2", "latest:4", "streaming:4", "dmc:2", "lru"}) {
    try {
      parse_policy("--window-policy", text);
      ADD_FAILURE() << text;
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), testing::StartsWith("--window-policy: '")) << text;
      EXPECT_THAT(error.what(), testing::HasSubstr("allowed: latest, streaming, h2o:K, threshold:K,T, dmc")) << text;
    }
  }
}

TEST(WindowOptions, TheDefaultsAreThoseOfTheLibrary) {
  auto choice = choose_window({});
  auto config = td::make<td_config>();
  config.rope_theta = 500;
  apply(choice, config);
  EXPECT_EQ(config.window_codec, nullptr);
  EXPECT_EQ(config.residual_tokens, 0);
  EXPECT_EQ(config.host_tier, TD_ON);
  EXPECT_EQ(config.window_policy->kind, TD_POLICY_LATEST);
  EXPECT_EQ(config.rope_theta, 500) << "what the model says stays";
}

TEST(WindowOptions, WhatIsAskedForReachesTheConfiguration) {
  auto choice = choose_window({.codec = "kivi2:64",
                               .calibration = {},
                               .residual = 192,
                               .policy = "streaming",
                               .host_tier = {},
                               .rope_theta = 10000});
  auto config = td::make<td_config>();
  apply(choice, config);
  ASSERT_NE(config.window_codec, nullptr);
  EXPECT_EQ(config.window_codec->group, 64);
  EXPECT_EQ(config.residual_tokens, 192);
  EXPECT_EQ(config.host_tier, TD_OFF);
  EXPECT_EQ(config.window_policy->compact_sinks, 1);
  EXPECT_EQ(config.rope_theta, 10000);
  Json tiers = Json::object();
  add_to_json(choice, tiers);
  EXPECT_EQ(tiers.at("window_codec").at("kind"), "kivi");
  EXPECT_EQ(tiers.at("host_tier"), false);
}

TEST(WindowOptions, ChunksAreSmallWhereTokensCouldLeaveUnseen) {
  EXPECT_EQ(choose_window({}).chunk_tokens(4096), 512);
  EXPECT_EQ(choose_window({}).chunk_tokens(100), 100);
  EXPECT_EQ(choose_window({.policy = "h2o:8"}).chunk_tokens(4096), 64);
  EXPECT_EQ(choose_window({.host_tier = "off"}).chunk_tokens(4096), 64);
  EXPECT_EQ(choose_window({.host_tier = "off"}).chunk_tokens(8), 8);
}

TEST(WindowOptions, WhatWouldBeIgnoredOrContradictsIsRefused) {
  EXPECT_THROW(choose_window({.residual = 64}), UsageError);
  EXPECT_THROW(choose_window({.codec = "kivi4", .calibration = "levels.safetensors"}), UsageError);
  EXPECT_THROW(choose_window({.codec = "nuq4"}), UsageError);
  EXPECT_THROW(choose_window({.policy = "dmc"}), UsageError);
  EXPECT_THROW(choose_window({.policy = "streaming", .host_tier = "on"}), UsageError);
  const auto without_host = choose_window({.host_tier = "off"});
  EXPECT_THROW(refuse_host_options(without_host, {}, {"--budget"}), UsageError);
  EXPECT_THROW(refuse_host_options(without_host, {.window_dtype = {}, .host_dtype = "f16"}, {}), UsageError);
  EXPECT_NO_THROW(refuse_host_options(without_host, {}, {}));
  EXPECT_NO_THROW(refuse_host_options(choose_window({}), {.window_dtype = {}, .host_dtype = "f16"}, {"--budget"}));
}

TEST(FillerText, IsSentencesThatDependOnTheSeed) {
  for (const std::size_t bytes : {0u, 1u, 63u, 1000u}) EXPECT_EQ(filler_text(bytes, 1).size(), bytes);
  const auto text = filler_text(1000, 1);
  EXPECT_EQ(text.substr(0, 63), filler_text(63, 1));
  EXPECT_NE(text, filler_text(1000, 2));
  EXPECT_THAT(text, testing::ContainsRegex("^[A-Z][a-z ,]+\\. [A-Z]"));
}

}  // namespace
}  // namespace tandem::cli
