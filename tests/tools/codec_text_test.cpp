#include "tools/tandem/codec_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/tandem/command.h"
#include "tools/tandem/named_codec.h"

namespace tandem::cli {
namespace {

nlohmann::json parsed(const std::string& text) {
  return codec_to_json<nlohmann::json>(parse_codec("--window-codec", text, "levels.safetensors").get());
}

TEST(CodecText, EveryFormIsItsCodec) {
  EXPECT_EQ(parsed("none").at("kind"), "none");
  EXPECT_EQ(parsed("int8").at("kind"), "int8");
  EXPECT_EQ(parsed("fp8").at("kind"), "fp8");
  for (const int bits : {2, 4}) {
    const auto kivi = parsed("kivi" + std::to_string(bits));
    EXPECT_EQ(kivi.at("kind"), "kivi");
    EXPECT_EQ(kivi.at("bits"), bits);
    EXPECT_EQ(kivi.at("group"), 0) << "the library's default";
  }
  EXPECT_EQ(parsed("kivi2:128").at("group"), 128);
  EXPECT_EQ(parsed("qjl").at("sketch_bits"), 0) << "the library's default";
  EXPECT_EQ(parsed("qjl:512,16").at("sketch_bits"), 512);
  EXPECT_EQ(parsed("qjl:512,16").at("outliers"), 16);
  EXPECT_EQ(parsed("qjl:256,0").at("outliers"), -1) << "none, where 0 would be the default";
  for (const int bits : {2, 3, 4}) {
    const auto nuq = parsed("nuq" + std::to_string(bits));
    EXPECT_EQ(nuq.at("bits"), bits);
    EXPECT_EQ(nuq.at("calibration"), "levels.safetensors");
  }
  EXPECT_EQ(parsed(R"({"kind": "qjl", "projection": "gaussian", "seed": 7})").at("projection"), "gaussian");
}

TEST(CodecText, OnlyNuqTakesACalibration) {
  EXPECT_EQ(parse_codec("", "kivi4", "levels.safetensors").get().calibration, nullptr);
  EXPECT_EQ(parse_codec("", "nuq4", "").get().calibration, nullptr);
}

TEST(CodecText, RefusalsNameTheFieldTheTextAndWhatIsAllowed) {
  for (const char* text :
       {"", ":", "kivi", "kivi3", "kivi4:", "kivi4:x", "kivi4:0", "kivi4:-32", "kivi4:32,64", "qjl:256", "qjl:256,8,1",
        "qjl:0,8", "qjl:256,-1", "nuq5", "nuq4:2", "int8:1", "none:", "{}", "{\"kind\""}) {
    try {
      parse_codec("--window-codec", text, "");
      ADD_FAILURE() << text;
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), testing::StartsWith("--window-codec: '")) << text;
      EXPECT_THAT(error.what(), testing::HasSubstr("allowed: none, int8, fp8, kivi4, kivi4:GROUP")) << text;
    }
  }
  EXPECT_THROW(parse_codec("", R"({"kind": "kivi", "outliers": 3})", ""), UsageError);
  EXPECT_THROW(parse_codec("", R"({"kind": "kivi", "bits": "two"})", ""), UsageError);
}

TEST(CodecText, ListsKeepTheCommasOfTheirForms) {
  using Parts = std::vector<std::string>;
  EXPECT_EQ(split_forms("bf16,qjl:256,8,kivi4", {"qjl:"}), (Parts{"bf16", "qjl:256,8", "kivi4"}));
  EXPECT_EQ(split_forms("qjl,qjl:256,0,qjl:128,8", {"qjl:"}), (Parts{"qjl", "qjl:256,0", "qjl:128,8"}));
  EXPECT_EQ(split_forms("threshold:64,0.5,h2o:8", {"threshold:"}), (Parts{"threshold:64,0.5", "h2o:8"}));
  EXPECT_EQ(split_forms("", {"qjl:"}), Parts{""});
}

TEST(CodecList, DtypesAreWindowsWithoutACodec) {
  const auto codecs = parse_codecs({.codecs = "f32,none,kivi4", .calibration = {}, .window_dtype = "f16"});
  ASSERT_EQ(codecs.size(), 3u);
  EXPECT_EQ(codecs[0].dtype, TD_F32);
  EXPECT_EQ(codecs[0].codec.codec.kind, TD_CODEC_NONE);
  EXPECT_EQ(codecs[1].dtype, TD_F16);
  EXPECT_EQ(codecs[2].dtype, TD_F16);
  EXPECT_EQ(codecs[2].codec.codec.kind, TD_CODEC_KIVI);
}

TEST(CodecList, CalibratedCodecsAreThereWithACalibration) {
  const auto names = [](const std::string& calibration) {
    std::vector<std::string> result;
    for (const auto& codec : parse_codecs({.codecs = {}, .calibration = calibration})) result.push_back(codec.name);
    return result;
  };
  EXPECT_THAT(names(""), testing::Not(testing::Contains("nuq4")));
  EXPECT_THAT(names("levels.safetensors"), testing::IsSupersetOf({"bf16", "qjl:256,8", "nuq4", "nuq3", "nuq2"}));
  EXPECT_THROW(parse_codecs({.codecs = "bf16,nuq4", .calibration = {}}), UsageError);
  EXPECT_THROW(parse_codecs({.codecs = "bf16", .calibration = "levels.safetensors"}), UsageError);
}

}  // namespace
}  // namespace tandem::cli
