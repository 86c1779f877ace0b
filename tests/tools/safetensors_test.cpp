#include "tools/formats/safetensors.h"

#include <array>
#include <cstring>
#include <random>

#include <gmock/gmock.h>

#include "tests/tools/files.h"
#include "tools/formats/input_file.h"

namespace tandem::tools {
namespace {

using testing::expect_error;
using testing::read_bytes;
using testing::safetensors_bytes;
using testing::TemporaryFolder;
using testing::write_bytes;

class SafetensorsRoundTrip : public ::testing::TestWithParam<DType> {};

TEST_P(SafetensorsRoundTrip, KeepsEveryBit) {
  const DType dtype = GetParam();
  TemporaryFolder folder;
  std::vector<float> values(2 * 3 * 5);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.25f * static_cast<float>(i) - 3.f;
  std::vector<std::byte> bytes(values.size() * bytes_of(dtype));
  store_f32(dtype, values.data(), bytes.data(), std::ssize(values));
  const float scalar = 7.f;
  write_safetensors(folder / "a.safetensors",
                    {{"x", {dtype, {2, 3, 5}, bytes.data()}},
                     {"empty", {dtype, {0, 4}, nullptr}},
                     {"a scalar", {DType::f32, {}, reinterpret_cast<const std::byte*>(&scalar)}}},
                    {{"made by", "a \"test\""}});

  const auto file = SafetensorsFile::open(folder / "a.safetensors");
  EXPECT_EQ(file.tensors().size(), 3u);
  const Tensor& x = file.at("x", {2, 3, 5});
  EXPECT_EQ(x.dtype, dtype);
  EXPECT_EQ(x.elements(), 30);
  EXPECT_EQ(std::memcmp(x.data, bytes.data(), bytes.size()), 0);
  EXPECT_EQ(x.to_f32(), values);
  EXPECT_EQ(file.at("empty", {0, 4}).to_f32(), std::vector<float>());
  EXPECT_EQ(file.at("a scalar", {}).to_f32(), std::vector<float>{7.f});
  EXPECT_TRUE(file.contains("x"));
  EXPECT_FALSE(file.contains("made by"));
}

INSTANTIATE_TEST_SUITE_P(DTypes, SafetensorsRoundTrip, ::testing::Values(DType::f32, DType::f16, DType::bf16),
                         [](const auto& instance) { return to_string(instance.param); });

TEST(Safetensors, TensorsOutliveMovesOfTheFile) {
  TemporaryFolder folder;
  const float value = 3.f;
  write_safetensors(folder / "a", {{"x", {DType::f32, {1}, reinterpret_cast<const std::byte*>(&value)}}});
  auto first = SafetensorsFile::open(folder / "a");
  const auto second = std::move(first);
  EXPECT_EQ(second.at("x").to_f32(), std::vector<float>{3.f});
}

TEST(Safetensors, ReadsTheModelOfOtherTools) {
  const auto file = SafetensorsFile::open(std::string(TANDEM_DATA_DIR) + "/tiny-llama/model.safetensors");
  EXPECT_EQ(file.at("model.embed_tokens.weight", {264, 256}).dtype, DType::f16);
  EXPECT_EQ(file.tensors().size(), 38u);
}

TEST(Safetensors, NamesWhatIsMissingOrMisshapen) {
  TemporaryFolder folder;
  const float values[6] = {};
  const auto* data = reinterpret_cast<const std::byte*>(values);
  write_safetensors(folder / "a.st", {{"k", {DType::f32, {2, 3}, data}}, {"v", {DType::f32, {6}, data}}});
  const auto file = SafetensorsFile::open(folder / "a.st");
  expect_error(ErrorCode::io, {"a.st", "'q'", "k, v"}, [&] { return file.at("q"); });
  expect_error(ErrorCode::io, {"a.st", "'k'", "[2, 3]", "[3, 2]"}, [&] { return file.at("k", {3, 2}); });
  expect_error(ErrorCode::io, {"a.st", "'v'", "[6]", "[2, 3]"}, [&] { return file.at("v", {2, 3}); });
}

TEST(Safetensors, WritesWholeFilesOrNone) {
  TemporaryFolder folder;
  const float value = 3.f;
  const auto* data = reinterpret_cast<const std::byte*>(&value);
  const std::map<std::string, Tensor> good = {{"x", {DType::f32, {1}, data}}};
  expect_error(ErrorCode::io, {"missing/a.st"}, [&] { write_safetensors(folder / "missing/a.st", good); });
  std::filesystem::create_directories(folder / "taken.st/inside");
  expect_error(ErrorCode::io, {"taken.st"}, [&] { write_safetensors(folder / "taken.st", good); });
  const auto bad = folder / "bad.st";
  expect_error(ErrorCode::io, {"bad.st", "'x'", "no data"}, [&] {
    write_safetensors(bad, {{"x", {DType::f32, {1}, nullptr}}});
  });
  expect_error(ErrorCode::io, {"bad.st", "'x'", "negative"}, [&] {
    write_safetensors(bad, {{"x", {DType::f32, {-1}, data}}});
  });
  expect_error(ErrorCode::io, {"bad.st", "__metadata__"}, [&] {
    write_safetensors(bad, {{"__metadata__", {DType::f32, {1}, data}}});
  });
  expect_error(ErrorCode::io, {"bad.st", "UTF-8"}, [&] {
    write_safetensors(bad, {{"\xff", {DType::f32, {1}, data}}});
  });
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1) << "a temporary file stayed";
}

struct Corruption {
  const char* what;
  std::string bytes;
  const char* message;
};

/// Spaces behind the JSON align the data, as every writer does.
std::string aligned(std::string header, const std::string& data) {
  header.append((8 - header.size() % 8) % 8, ' ');
  return safetensors_bytes(header, data);
}

/// `entry` describes tensor x, whose file has eight bytes of data.
std::string with_entry(const std::string& entry) { return aligned("{\"x\": " + entry + "}", "12345678"); }

std::string with_length(std::uint64_t length, const std::string& rest) {
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + rest;
}

std::vector<Corruption> headers() {
  return {
      {"empty file", "", "truncated"},
      {"no whole length", "1234567", "truncated"},
      {"header longer than the file", with_length(100, "{}"), "truncated"},
      {"header one byte longer than the file", with_length(3, "{}"), "truncated"},
      {"header above the limit", with_length(100'000'001, "{}"), "100000000"},
      {"length of all ones", with_length(~std::uint64_t{0}, "{}"), "at most"},
      {"empty header", safetensors_bytes("", ""), "not a JSON object"},
      {"garbage", safetensors_bytes("{\"x\": [}", ""), "not a JSON object"},
      {"array", safetensors_bytes("[]", ""), "not a JSON object"},
      {"bytes behind the JSON", safetensors_bytes("{} x", ""), "not a JSON object"},
      {"no UTF-8", safetensors_bytes("{\"\xff\": 1}", ""), "not a JSON object"},
      {"deep nesting", safetensors_bytes("{\"x\":" + std::string(100'000, '['), ""), "nested"},
      {"metadata no object", safetensors_bytes("{\"__metadata__\": 1}", ""), "__metadata__"},
      {"metadata no strings", safetensors_bytes("{\"__metadata__\": {\"a\": 1}}", ""), "__metadata__"},
      {"bytes that belong to nobody", safetensors_bytes("{}", "1234"), "4 bytes follow"},
      {"a tensor twice",
       aligned(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
               R"("x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
               "1234"),
       "twice"},
      {"overlap",
       aligned(R"({"x":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},)"
               R"("y":{"dtype":"F16","shape":[2],"data_offsets":[2,6]}})",
               "123456"),
       "overlaps"},
      {"same bytes for two",
       aligned(R"({"x":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},)"
               R"("y":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}})",
               "1234"),
       "overlaps"},
  };
}

std::vector<Corruption> entries() {
  return {
      {"entry no object", with_entry("1"), "'x'"},
      {"no dtype", with_entry(R"({"shape":[2],"data_offsets":[0,8]})"), "no dtype"},
      {"dtype no string", with_entry(R"({"dtype":1,"shape":[2],"data_offsets":[0,8]})"), "no dtype"},
      {"unknown dtype", with_entry(R"({"dtype":"F64","shape":[1],"data_offsets":[0,8]})"), "F32, F16, BF16"},
      {"no shape", with_entry(R"({"dtype":"F32","data_offsets":[0,8]})"), "shape must"},
      {"negative size", with_entry(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"), "shape must"},
      {"fractional size", with_entry(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"), "shape must"},
      {"size of 2^63", with_entry(R"({"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]})"),
       "shape must"},
      {"product beyond 64 bits", with_entry(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]})"),
       "64 bits"},
      // 4 * (2^62 + 2) wraps around to 8, the size of the data
      {"product that wraps to fit", with_entry(R"({"dtype":"F32","shape":[4611686018427387906],"data_offsets":[0,8]})"),
       "64 bits"},
      {"shape too large", with_entry(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"), "need 12"},
      {"shape too small", with_entry(R"({"dtype":"BF16","shape":[2],"data_offsets":[0,8]})"), "need 4"},
      {"no offsets", with_entry(R"({"dtype":"F32","shape":[2]})"), "data_offsets must"},
      {"one offset", with_entry(R"({"dtype":"F32","shape":[2],"data_offsets":[8]})"), "data_offsets [8]"},
      {"offsets reversed", with_entry(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), "data_offsets [8, 0]"},
      {"a gap before what is beyond the end", with_entry(R"({"dtype":"F32","shape":[2],"data_offsets":[4,12]})"),
       "begins at byte 4"},
      {"offsets of 2^63 - 1",
       with_entry(R"({"dtype":"F16","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807]})"),
       "64 bits"},
      {"a file shorter than its header says", with_entry(R"({"dtype":"F32","shape":[3],"data_offsets":[0,12]})"),
       "truncated: the file is shorter than its header says, which describes 12 bytes of data; 8 are there. Tensor 'x' "
       "takes 12 bytes, of which 8 are there"},
      {"a second tensor that is not there",
       aligned(R"({"x":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},)"
               R"("y":{"dtype":"F16","shape":[3],"data_offsets":[4,10]}})",
               "123"),
       "describes 10 bytes of data; 3 are there. Tensor 'x' takes 4 bytes, of which 3 are there"},
      {"a tensor of which nothing is there",
       aligned(R"({"x":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},)"
               R"("y":{"dtype":"F16","shape":[3],"data_offsets":[4,10]}})",
               "1234"),
       "Tensor 'y' takes 6 bytes, of which 0 are there"},
      {"offsets of 2^64", with_entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551624]})"), "must"},
      {"a gap", with_entry(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})"), "begins at byte 4"},
  };
}

TEST(Safetensors, RejectsCorruptFilesByName) {
  TemporaryFolder folder;
  const auto path = folder / "broken.st";
  auto all = headers();
  for (auto& more : entries()) all.push_back(more);
  for (const Corruption& corruption : all) {
    SCOPED_TRACE(corruption.what);
    write_bytes(path, corruption.bytes);
    expect_error(ErrorCode::io, {"broken.st", corruption.message}, [&] { SafetensorsFile::open(path); });
  }
}

TEST(Safetensors, ReadsDataThatBeginsAnywhere) {
  const TemporaryFolder folder;
  const float values[] = {1.5f, -2.f};
  const std::string data(reinterpret_cast<const char*>(values), sizeof(values));
  for (std::size_t spaces = 0; spaces < 8; ++spaces) {
    const std::string header = R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})" + std::string(spaces, ' ');
    write_bytes(folder / "a.st", safetensors_bytes(header, data));
    const auto file = SafetensorsFile::open(folder / "a.st");
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(file.at("x").data) % sizeof(float), 0u) << spaces;
    EXPECT_EQ(file.at("x").to_f32(), std::vector<float>({1.5f, -2.f})) << spaces;
  }
}

TEST(Safetensors, HoldsWhatItReadWhenTheFileIsCutShort) {
  const TemporaryFolder folder;
  const std::vector<float> values(1 << 16, 2.f);  // many pages
  write_safetensors(folder / "a.st",
                    {{"x", {DType::f32, {1 << 16}, reinterpret_cast<const std::byte*>(values.data())}}});
  const auto file = SafetensorsFile::open(folder / "a.st");
  std::filesystem::resize_file(folder / "a.st", 0);
  EXPECT_EQ(file.at("x").to_f32(), values);
}

TEST(InputFiles, ThatBecomeShorterAreErrorsWhereBytesAreMissing) {
  const TemporaryFolder folder;
  write_bytes(folder / "a", std::string(100, 'a'));
  const InputFile file(folder / "a");
  std::filesystem::resize_file(folder / "a", 30);
  EXPECT_EQ(file.bytes(), 100u);
  std::array<std::byte, 20> target{};
  file.read(10, target, "the middle");
  EXPECT_EQ(target.back(), std::byte{'a'});
  expect_error(ErrorCode::io, {"/a: truncated: tensor 'k' takes 20 bytes from byte 25 on, 5 are there"},
               [&] { file.read(25, target, "tensor 'k'"); });
  expect_error(ErrorCode::io, {"takes 20 bytes from byte 40 on, 0 are there"}, [&] { file.read(40, target, "x"); });
  EXPECT_EQ(file.text(), std::string(30, 'a'));
}

TEST(Safetensors, RejectsWhatIsNoFile) {
  TemporaryFolder folder;
  expect_error(ErrorCode::io, {"absent.st", "cannot be opened"}, [&] { SafetensorsFile::open(folder / "absent.st"); });
  expect_error(ErrorCode::io, {"is a folder; allowed: a regular file"}, [&] { SafetensorsFile::open(folder.path()); });
}

/// So that an access out of bounds becomes a crash.
void read_all(const SafetensorsFile& file) {
  for (const auto& [name, tensor] : file.tensors()) EXPECT_EQ(std::ssize(tensor.to_f32()), tensor.elements());
}

TEST(Safetensors, SurvivesFlippedBytesAndTruncation) {
  TemporaryFolder folder;
  const auto path = folder / "fuzz.st";
  const std::vector<float> values(24, 1.f);
  const auto* data = reinterpret_cast<const std::byte*>(values.data());
  write_safetensors(path, {{"k", {DType::f16, {2, 3, 4}, data}}, {"q", {DType::f32, {4, 6}, data}}}, {{"a", "b"}});
  const std::string good = read_bytes(path);
  std::mt19937 random(7);
  const std::string digits = "0123456789-,:[]{}\"eE. ";
  int accepted = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bad = good;
    for (unsigned flips = 1 + random() % 3; flips > 0; --flips) {
      const std::size_t at = random() % (good.size() - sizeof(float) * values.size());
      bad[at] = random() % 2 == 0 ? static_cast<char>(random()) : digits[random() % digits.size()];
    }
    if (round % 10 == 0) bad.resize(random() % bad.size());
    write_bytes(path, bad);
    try {
      read_all(SafetensorsFile::open(path));
      ++accepted;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::io);
      EXPECT_THAT(error.what(), ::testing::HasSubstr("fuzz.st"));
    }
  }
  EXPECT_LT(accepted, 1500);  // flips inside names and metadata are harmless
}

}  // namespace
}  // namespace tandem::tools
