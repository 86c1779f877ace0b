#include "tools/formats/json_fields.h"

#include <functional>

#include "tests/tools/files.h"

namespace tandem::tools {
namespace {

using testing::expect_error;
using testing::TemporaryFolder;
using testing::write_bytes;

class JsonFieldsTest : public ::testing::Test {
 protected:
  JsonFields parse(const std::string& text) {
    write_bytes(folder_ / "a.json", text);
    return JsonFields::read(folder_ / "a.json");
  }
  void expect_io(const std::vector<std::string>& parts, const std::function<void()>& call) {
    expect_error(ErrorCode::io, parts, call);
  }
  TemporaryFolder folder_;
};

TEST_F(JsonFieldsTest, ReadsEveryKind) {
  const auto fields =
      parse(R"({"n": 7, "x": 0.5, "b": true, "s": "text", "list": [2, 1], "none": null, "o": {"n": 8}})");
  EXPECT_EQ(fields.integer("n", 0, 7), 7);
  EXPECT_EQ(fields.integer("o.n", 0, 9), 8);
  EXPECT_EQ(fields.integer("none", 0, 9, 3), 3);
  EXPECT_EQ(fields.positive("x"), 0.5f);
  EXPECT_EQ(fields.positive("n"), 7.f);
  EXPECT_EQ(fields.positive("o.x", 2.f), 2.f);
  EXPECT_TRUE(fields.boolean("b", false));
  EXPECT_EQ(fields.text("s", ""), "text");
  EXPECT_EQ(fields.integers("list", 0, 9), (std::vector<std::int64_t>{2, 1}));
  EXPECT_TRUE(fields.has("o"));
  EXPECT_FALSE(fields.has("none"));
  EXPECT_FALSE(fields.has("n.x"));
}

TEST_F(JsonFieldsTest, NamesFileFieldValueAndRange) {
  const auto fields = parse(
      R"({"big": 18446744073709551615, "half": 1.5, "neg": -1, "huge": 1e300, "s": "t", "twice": [1, 1], "no": []})");
  expect_io({"a.json", "absent", "missing", "0 to 9"}, [&] { return fields.integer("absent", 0, 9); });
  expect_io({"big", "18446744073709551615"}, [&] { return fields.integer("big", 0, INT64_MAX); });
  expect_io({"half", "1.5"}, [&] { return fields.integer("half", 0, 9); });
  expect_io({"neg", "-1"}, [&] { return fields.integer("neg", 0, 9); });
  expect_io({"neg", "positive"}, [&] { return fields.positive("neg"); });
  expect_io({"huge", "fp32"}, [&] { return fields.positive("huge"); });
  expect_io({"s is \"t\"", "true or false"}, [&] { return fields.boolean("s", true); });
  expect_io({"half", "a string"}, [&] { return fields.text("half", ""); });
  expect_io({"twice", "distinct"}, [&] { return fields.integers("twice", 0, 9); });
  expect_io({"no is []"}, [&] { return fields.integers("no", 0, 9); });
  expect_io({"s is", "array"}, [&] { return fields.integers("s", 0, 9); });
}

TEST_F(JsonFieldsTest, RejectsWhatIsNoObject) {
  for (const char* text : {"", "[]", "{", "{} {}", "nonsense", "{\"a\": 1e999}"}) {
    expect_io({"a.json", "not a JSON object"}, [&] { return parse(text); });
  }
  expect_io({"a.json", "larger"}, [&] { return parse(std::string((16u << 20) + 1, ' ')); });
  expect_io({"absent.json"}, [&] { return JsonFields::read(folder_ / "absent.json"); });
}

}  // namespace
}  // namespace tandem::tools
