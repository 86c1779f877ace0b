// Files of calibrations: exact round trips, and every kind of damage refused by name.
#include "runtime/nuq_file.h"

#include <filesystem>
#include <fstream>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "runtime/base/error.h"
#include "tests/support/nuq_fixture.h"

namespace tandem {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const cpu::NuqShape kShape{2, 3, 8, 6, {1e4, 4, true}, 0.02};

std::shared_ptr<const cpu::NuqCalibration> calibration() { return testing::nuq_calibration(kShape, false, 60); }

void expect_equal(const cpu::NuqCalibration& a, const cpu::NuqCalibration& b) {
  EXPECT_EQ(a.shape(), b.shape());
  EXPECT_EQ(a.bits(), b.bits());
  for (std::int32_t i = 0; i < a.shape().num_layers; ++i) {
    EXPECT_EQ(a.layer(i).levels_k, b.layer(i).levels_k);
    EXPECT_EQ(a.layer(i).levels_v, b.layer(i).levels_v);
    ASSERT_EQ(a.layer(i).channels.size(), b.layer(i).channels.size());
    for (std::size_t c = 0; c < a.layer(i).channels.size(); ++c) {
      EXPECT_EQ(a.layer(i).channels[c].offset, b.layer(i).channels[c].offset);
      EXPECT_EQ(a.layer(i).channels[c].scale, b.layer(i).channels[c].scale);
    }
  }
}

/// What reading `text` says.
std::string refusal(const std::string& text) {
  try {
    nuq_from_json(text, "model.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::io);
    return error.what();
  }
  return "accepted";
}

TEST(NuqFile, RoundTripsExactly) {
  const auto original = calibration();
  expect_equal(*nuq_from_json(nuq_to_json(*original), "model.json"), *original);
  const std::vector<std::int32_t> two{2};
  std::vector<float> k(24 * 5, -1e15f), v(18 * 5, 0.f);
  k[7] = 1.1754942e-38f;
  const cpu::NuqShape shape{1, 3, 8, 6, {}, 0.0};
  const cpu::NuqCalibration extreme(shape, {cpu::fit_nuq_layer(shape, {5, k.data(), v.data()}, two)});
  expect_equal(*nuq_from_json(nuq_to_json(extreme), "model.json"), extreme);
}

TEST(NuqFile, IsReadFromItsPath) {
  const auto folder = std::filesystem::temp_directory_path() / "tandem-nuq-file-test";
  std::filesystem::create_directories(folder);
  const auto path = folder / "nuq.json", empty = folder / "empty.json";
  std::ofstream(path) << nuq_to_json(*calibration());
  std::ofstream(empty).flush();
  expect_equal(*read_nuq_file(path), *calibration());
  const auto message = [](const std::filesystem::path& file) {
    try {
      read_nuq_file(file);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::io);
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_THAT(message(folder / "none.json"), AllOf(HasSubstr("none.json"), HasSubstr("does not exist")));
  EXPECT_THAT(message(folder), HasSubstr("is not a regular file"));
  EXPECT_THAT(message("/dev/null"), HasSubstr("is not a regular file"));
  EXPECT_THAT(message(empty), AllOf(HasSubstr("empty.json"), HasSubstr("is not JSON")));
  std::filesystem::remove_all(folder);
}

/// A file in which one thing was changed, and what the refusal says.
struct Damage {
  const char* name;
  std::function<void(json&)> damage;
  const char* message;
};

class DamagedNuqFile : public ::testing::TestWithParam<Damage> {};
INSTANTIATE_TEST_SUITE_P(
    Fields, DamagedNuqFile,
    ::testing::Values(
        Damage{"format", [](json& j) { j["format"] = "gguf"; }, "model.json.format is 'gguf'; expected: 'tandem-nuq'"},
        Damage{"version", [](json& j) { j["version"] = 2; }, "model.json.version is 2; expected: 1"},
        Damage{"version_type", [](json& j) { j["version"] = "1"; },
               "model.json.version is \"1\"; it must be an integer"},
        Damage{"number", [](json& j) { j["layers"][1]["scale"][3] = 0.25; }, "expected: '"},
        Damage{"level", [](json& j) { j["layers"][0]["levels_v"][0][1] = 0.0; }, "the file is damaged"},
        Damage{"checksum", [](json& j) { j["checksum"] = "0123456789abcdef"; },
               "model.json.checksum is '0123456789abcdef'; expected: '"},
        Damage{"rope", [](json& j) { j["rope_theta"] = 5e5; }, "the file is damaged"},
        Damage{"share", [](json& j) { j["outliers"] = 0.01; }, "the file is damaged"},
        Damage{"heads", [](json& j) { j["num_kv_heads"] = 4; },
               "model.json.layers[0].offset is a list of 24; expected: 32 numbers"},
        Damage{"layers", [](json& j) { j["layers"].erase(1); }, "nuq.layers has 1 layers; allowed: num_layers (2)"},
        Damage{"not_a_list", [](json& j) { j["layers"] = 3; }, "model.json.layers is number; expected: a list"},
        Damage{"not_numbers", [](json& j) { j["layers"][0]["offset"][2] = "x"; },
               "model.json.layers[0].offset[2] is \"x\"; expected: a number"},
        Damage{"infinite", [](json& j) { j["layers"][0]["offset"][2] = 1e39; }, "channels[2].offset is inf"},
        Damage{"bits",
               [](json& j) {
                 j["bits"] = {2, 3, 5};
               },
               "model.json.bits has 5; expected: 2 to 4"},
        Damage{"fewer_bits",
               [](json& j) {
                 j["bits"] = {2, 3};
               },
               "model.json.layers[0].levels_k is a list of 3; expected: 2 lists"},
        Damage{"few_levels", [](json& j) { j["layers"][1]["levels_k"][2].erase(0); },
               "model.json.layers[1].levels_k[2] is a list of 15; expected: 16 numbers"},
        Damage{"unknown", [](json& j) { j["sinks"] = 4; }, "model.json.sinks is not a field; allowed: bits, checksum"},
        Damage{"layer_field", [](json& j) { j["layers"][0]["zero"] = 4; }, "model.json.layers[0].zero is not a field"}),
    [](const auto& test) { return test.param.name; });

TEST_P(DamagedNuqFile, IsRefusedByName) {
  json object = json::parse(nuq_to_json(*calibration()));
  GetParam().damage(object);
  EXPECT_THAT(refusal(object.dump()), AllOf(StartsWith("model.json"), HasSubstr(GetParam().message)));
}

TEST(NuqFile, EveryMissingFieldIsNamed) {
  const json whole = json::parse(nuq_to_json(*calibration()));
  for (const auto& [field, value] : whole.items()) {
    json object = whole;
    object.erase(field);
    EXPECT_EQ(refusal(object.dump()), "model.json." + field + " is missing");
  }
  for (const auto& [field, value] : whole["layers"][1].items()) {
    json object = whole;
    object["layers"][1].erase(field);
    EXPECT_EQ(refusal(object.dump()), "model.json.layers[1]." + field + " is missing");
  }
}

TEST(NuqFile, OtherTextIsRefused) {
  EXPECT_THAT(refusal("{\"format\": "), HasSubstr("model.json is not JSON"));
  EXPECT_THAT(refusal("[]"), HasSubstr("model.json is array; it must be an object"));
  const std::string text = nuq_to_json(*calibration());
  EXPECT_THAT(refusal(text.substr(0, text.size() / 2)), HasSubstr("is not JSON"));
}

}  // namespace
}  // namespace tandem
