#include "tools/plan/model_shape.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_message.h"
#include "tools/plan/catalog.h"

namespace tandem::plan {
namespace {

using tandem::testing::error_message;
using ::testing::HasSubstr;

Json small_config() {
  return {{"model_type", "llama"},    {"hidden_size", 64},
          {"intermediate_size", 128}, {"num_hidden_layers", 2},
          {"num_attention_heads", 4}, {"num_key_value_heads", 2},
          {"vocab_size", 100},        {"max_position_embeddings", 512}};
}

TEST(ModelShape, ParametersOfASmallModelByHand) {
  const ModelShape shape = shape_from_config(small_config(), "config");
  EXPECT_EQ(shape.head_dim, 16);
  EXPECT_EQ(shape.group_size(), 2);
  EXPECT_EQ(shape.parameters_before_attention(), 64 * (64 + 32 + 32) + 64);
  EXPECT_EQ(shape.parameters_behind_attention(), 64 * 64 + 3 * 64 * 128 + 64);
  EXPECT_EQ(shape.parameters(), 2 * 100 * 64 + 64 + 2 * (8256 + 28736));
}

TEST(ModelShape, TiedEmbeddingsCountOnceAndBiasesAndNormsCount) {
  Json config = small_config();
  const std::int64_t plain = shape_from_config(config, "config").parameters();
  config["tie_word_embeddings"] = true;
  EXPECT_EQ(shape_from_config(config, "config").parameters(), plain - 6400);
  config["tie_word_embeddings"] = false;
  config["model_type"] = "qwen2";
  EXPECT_EQ(shape_from_config(config, "config").parameters(), plain + 2 * 128);
  config["model_type"] = "qwen3";
  EXPECT_EQ(shape_from_config(config, "config").parameters(), plain + 2 * 32);
}

TEST(ModelShape, EveryModelOfTheLibraryHasItsPublishedParameters) {
  const Catalog catalog = Catalog::built_in();
  for (const auto& [name, model] : catalog.models()) {  // the reader compares them
    EXPECT_EQ(model.name, name);
    EXPECT_GT(model.parameters(), 6e9);
  }
}

TEST(ModelShape, SlidingWindows) {
  Json config = small_config();
  config["sliding_window"] = 128;
  EXPECT_EQ(shape_from_config(config, "config").visible(500), 500) << "llama has none";
  config["model_type"] = "mistral";
  EXPECT_EQ(shape_from_config(config, "config").visible(500), 128);
  EXPECT_EQ(shape_from_config(config, "config").visible(100), 100);
  config["sliding_window"] = nullptr;
  EXPECT_EQ(shape_from_config(config, "config").visible(500), 500);
  config["model_type"] = "qwen2";
  config["sliding_window"] = 128;
  EXPECT_EQ(shape_from_config(config, "config").visible(500), 500) << "only where use_sliding_window says so";
}

TEST(ModelShape, RefusesWhatItCannotRead) {
  const auto message = [](const char* field, Json value, ErrorCode code = ErrorCode::invalid_argument) {
    Json config = small_config();
    config[field] = std::move(value);
    return error_message([&] { shape_from_config(config, "config.json"); }, code);
  };
  EXPECT_THAT(message("hidden_size", -1), HasSubstr("config.json.hidden_size is -1; allowed: a whole number"));
  EXPECT_THAT(message("hidden_size", "64"), HasSubstr("hidden_size is \"64\""));
  EXPECT_THAT(message("num_attention_heads", 3), HasSubstr("must divide"));
  EXPECT_THAT(message("num_key_value_heads", 3), HasSubstr("num_key_value_heads is 3; it must divide"));
  EXPECT_THAT(message("vocab_size", nullptr), HasSubstr("vocab_size is missing"));
  EXPECT_THAT(message("tie_word_embeddings", 1), HasSubstr("must be true or false"));
  EXPECT_THAT(message("model_type", "gpt2", ErrorCode::unsupported), HasSubstr("allowed: llama, mistral"));
  EXPECT_THAT(message("num_local_experts", 8, ErrorCode::unsupported), HasSubstr("experts"));
}

TEST(ModelShape, RefusesAFileWhoseParametersDoNotFollow) {
  const Json file = {
      {"schema", "tandem-model"}, {"version", 1}, {"name", "small"}, {"parameters", 1}, {"config", small_config()}};
  EXPECT_THAT(error_message([&] { shape_from(file, "small.json"); }), HasSubstr("parameters is 1; the fields"));
}

TEST(ModelShape, AConfigFileIsNamedAfterItsFolder) {
  const ModelShape shape = load_shape(TANDEM_DATA_DIR "/tiny-llama/config.json");
  EXPECT_EQ(shape.name, "tiny-llama");
  EXPECT_EQ(shape.num_layers, 4);
  EXPECT_EQ(shape.head_dim, 64);
  EXPECT_NEAR(static_cast<double>(shape.parameters()), 2.43e6, 0.01e6);
  EXPECT_THAT(error_message([] { load_shape("no/such/config.json"); }, ErrorCode::io),
              HasSubstr("no/such/config.json"));
}

TEST(ModelShape, BytesOfWeights) {
  EXPECT_EQ(bytes_of(WeightFormat::bf16), 2.0);
  EXPECT_GT(bytes_of(WeightFormat::int8), 1.0);
  EXPECT_LT(bytes_of(WeightFormat::int4), bytes_of(WeightFormat::int8));
}

}  // namespace
}  // namespace tandem::plan
