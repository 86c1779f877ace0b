#include "tools/report/scale.h"

#include <cmath>
#include <limits>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_message.h"
#include "tools/report/numbers.h"

namespace tandem::report {
namespace {

using ::testing::ElementsAre;
using testing::error_message;
using ::testing::HasSubstr;

const Axis kLinear{.label = "x"};
const Axis kLog{.label = "x", .kind = ScaleKind::log};
const Axis kBinary{.label = "x", .kind = ScaleKind::log, .numbers = Numbers::binary};

std::vector<std::string> texts(const Scale& scale, int most) {
  std::vector<std::string> result;
  for (const Tick& tick : scale.ticks(most)) result.push_back(tick.text);
  return result;
}

TEST(ReportScale, LinearTicksAreRound) {
  EXPECT_THAT(texts(Scale(kLinear, 0, 187.4, 0, 100), 6), ElementsAre("0", "50", "100", "150", "200"));
  EXPECT_THAT(texts(Scale(kLinear, 0, 0.7, 0, 100), 5), ElementsAre("0", "0.2", "0.4", "0.6", "0.8"));
  EXPECT_THAT(texts(Scale(kLinear, -3, 3, 0, 100), 6), ElementsAre("-4", "-2", "0", "2", "4"));
  EXPECT_THAT(texts(Scale({.numbers = Numbers::si}, 0, 2000, 0, 100), 6), ElementsAre("0", "500", "1k", "1.5k", "2k"));
}

TEST(ReportScale, LogarithmicTicksAreOneTwoFiveOrPowers) {
  EXPECT_THAT(texts(Scale(kLog, 1, 100, 0, 100), 8), ElementsAre("1", "2", "5", "10", "20", "50", "100"));
  EXPECT_THAT(texts(Scale(kLog, 1, 100, 0, 100), 5), ElementsAre("1", "3", "10", "30", "100"));
  EXPECT_THAT(texts(Scale(kLog, 1, 1e6, 0, 100), 4), ElementsAre("1", "100", "10,000", "1,000,000"));
  EXPECT_THAT(texts(Scale(kBinary, 8192, 131072, 0, 100, true), 6), ElementsAre("8K", "16K", "32K", "64K", "128K"));
  EXPECT_THAT(texts(Scale(kBinary, 8192, 131072, 0, 100, true), 3), ElementsAre("8K", "32K", "128K"));
}

TEST(ReportScale, MapsEndsToEndsAndLogarithmsEvenly) {
  const Scale linear(kLinear, 0, 10, 30, 530);
  EXPECT_DOUBLE_EQ(linear(0), 30);
  EXPECT_DOUBLE_EQ(linear(10), 530);
  EXPECT_DOUBLE_EQ(linear(2.5), 155);
  const Scale log(kLog, 1, 1000, 300, 0);  // upwards
  EXPECT_DOUBLE_EQ(log(1), 300);
  EXPECT_DOUBLE_EQ(log(1000), 0);
  EXPECT_NEAR(log(10), 200, 1e-9);
  EXPECT_DOUBLE_EQ(log(1e9), 0);  // the nearer end
}

TEST(ReportScale, OneValueHasRoomAroundIt) {
  for (const double value : {0.0, 1e-300, 3.0, -7.0, 1e300}) {
    const Scale scale({.from_zero = false}, value, value, 0, 100);
    EXPECT_LE(scale.low(), value);
    EXPECT_GT(scale.high(), value);
    EXPECT_TRUE(std::isfinite(scale(value)));
    EXPECT_GE(scale.ticks(5).size(), 2u);
  }
  const Scale log(kLog, 3, 3, 0, 100);
  EXPECT_LT(log.low(), 3);
  EXPECT_GT(log.high(), 3);
}

/// Laws of all ticks: rising, inside, no more than asked for, and no two alike.
void expect_good_ticks(const Scale& scale, int most) {
  const auto ticks = scale.ticks(most);
  EXPECT_LE(ticks.size(), static_cast<std::size_t>(most));
  for (std::size_t i = 0; i < ticks.size(); ++i) {
    const double slack = 1e-6 * std::max(std::abs(scale.low()), std::abs(scale.high()));
    EXPECT_GE(ticks[i].value, scale.low() - slack);
    EXPECT_LE(ticks[i].value, scale.high() + slack);
    if (i > 0) {
      EXPECT_GT(ticks[i].value, ticks[i - 1].value);
      EXPECT_NE(ticks[i].text, ticks[i - 1].text) << scale.low() << " to " << scale.high();
    }
  }
}

TEST(ReportScale, TicksAreGoodOnAnyRange) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> exponent(-290, 290);
  std::uniform_real_distribution<double> share(1e-6, 1);
  for (int i = 0; i < 3000; ++i) {
    const double size = std::pow(10.0, exponent(random) / (i % 2 == 0 ? 1 : 40));
    const double low = size * (1 - share(random));
    for (const Numbers numbers : {Numbers::plain, Numbers::si, Numbers::binary})
      for (const int most : {2, 3, 5, 9}) {
        expect_good_ticks(Scale({.numbers = numbers, .from_zero = i % 3 == 0}, low, size, 0, 100, i % 5 == 0), most);
        expect_good_ticks(Scale({.numbers = numbers, .from_zero = false}, -size, low, 0, 100), most);
        expect_good_ticks(Scale({.kind = ScaleKind::log, .numbers = numbers}, low, size, 0, 100, i % 5 == 0), most);
      }
  }
  for (const int most : {2, 4, 8}) {
    expect_good_ticks(Scale(kLinear, -1e300, 1e300, 0, 100), most);
    expect_good_ticks(Scale(kLog, 1e-300, 1e300, 0, 100), most);
    expect_good_ticks(Scale(kBinary, 1e-300, 1e300, 0, 100), most);
  }
}

TEST(ReportScale, RefusesWhatAnAxisCannotShow) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const double value : {std::nan(""), kInfinity, -kInfinity, 2e300})
    EXPECT_THAT(error_message([&] { checked(value, kLinear, "series 'a'", "y"); }), HasSubstr("series 'a': y is "));
  for (const double value : {0.0, -1.0, 1e-301})
    EXPECT_THAT(error_message([&] { checked(value, kLog, "series 'a'", "y"); }),
                HasSubstr("on a logarithmic axis it must be at least 1e-300"));
  EXPECT_EQ(checked(0, kLinear, "a", "y"), 0);
  EXPECT_EQ(checked(-1e300, kLinear, "a", "y"), -1e300);
}

TEST(ReportNumbers, WriteThreeDigits) {
  EXPECT_EQ(number_text(0), "0");
  EXPECT_EQ(number_text(12.345), "12.3");
  EXPECT_EQ(number_text(-0.012345), "-0.0123");
  EXPECT_EQ(number_text(1234.5), "1,234");
  EXPECT_EQ(number_text(99.96), "100");
  EXPECT_EQ(number_text(1234567), "1,234,567");
  EXPECT_EQ(number_text(2e7), "2\u00d710\u2077");
  EXPECT_EQ(number_text(9.999e-5), "10\u207b\u2074");
  EXPECT_EQ(number_text(1536, Numbers::binary), "1.5K");
  EXPECT_EQ(number_text(131072, Numbers::binary), "128K");
  EXPECT_EQ(number_text(1500, Numbers::si), "1.5k");
  EXPECT_EQ(number_text(0.0025, Numbers::si), "2.5m");
}

}  // namespace
}  // namespace tandem::report
