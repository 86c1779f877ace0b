#include "tools/plan/published.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_message.h"
#include "tools/plan/catalog.h"

namespace tandem::plan {
namespace {

using tandem::testing::error_message;
using ::testing::HasSubstr;

Json series() {
  const Json point = {{"model", "llama-2-7b"}, {"context", 1024}, {"batch", 4}, {"value", 0.5}};
  return {{"schema", "tandem-published"},
          {"version", 1},
          {"name", "s"},
          {"source", "somebody"},
          {"machine", "l20"},
          {"method", "swap"},
          {"settings", {{"dense_layers", 3}}},
          {"unit", "s_per_token"},
          {"points", Json::array({point})}};
}

TEST(Published, ReadsPoints) {
  const PublishedSeries read = published_from(series(), "s.json");
  ASSERT_EQ(read.points.size(), 1u);
  const PublishedPoint& point = read.points[0];
  EXPECT_EQ(point.settings.method, Method::swap);
  EXPECT_EQ(point.settings.dense_layers, 3);
  EXPECT_EQ(point.settings.context, 1024);
  EXPECT_EQ(point.tokens_per_s, 8) << "four sequences every half second";
  EXPECT_FALSE(point.fit);
  EXPECT_EQ(point.unexplained, "");
}

TEST(Published, RefusesWhatItCannotRead) {
  const auto message = [](const char* field, Json value) {
    Json object = series();
    object[field] = std::move(value);
    return error_message([&] { published_from(object, "s.json"); });
  };
  EXPECT_THAT(message("method", "magic"), HasSubstr("s.json.method is 'magic'; allowed: gpu, tandem"));
  EXPECT_THAT(message("unit", "s"), HasSubstr("s.json.unit is 's'"));
  EXPECT_THAT(message("points", Json::array()), HasSubstr("at least one point"));
  EXPECT_THAT(message("settings", {{"budget", 2}}), HasSubstr("s.json.settings.budget is 2"));
  EXPECT_THAT(message("settings", {{"bugdet", 1}}), HasSubstr("s.json.settings.bugdet is not a field"));
  EXPECT_THAT(message("version", 7), HasSubstr("s.json.version is 7"));
}

TEST(Published, TheLibraryFitsOneCurveAndChecksTheRest) {
  int fitted = 0;
  int checked = 0;
  const Catalog catalog = Catalog::built_in();
  for (const auto& [name, series] : catalog.published())
    for (const PublishedPoint& point : series.points) {
      ++(point.fit ? fitted : checked);
      EXPECT_EQ(point.fit, name == "magicpig-k10l150");
    }
  EXPECT_EQ(fitted, 12);
  EXPECT_EQ(checked, 17);
}

}  // namespace
}  // namespace tandem::plan
