#include "tools/report/text.h"

#include <string>

#include <gtest/gtest.h>

namespace tandem::report {
namespace {

TEST(ReportText, EscapesMarkupAndKeepsUtf8) {
  EXPECT_EQ(escaped("a < b && \"c\" > 'd'"), "a &lt; b &amp;&amp; &quot;c&quot; &gt; &#39;d&#39;");
  const std::string text = "\u00e9 \u00d7 \u4e2d \U0001f600 \u2013 \u07ff \u0800 \uffee";
  EXPECT_EQ(escaped(text), text);
  EXPECT_EQ(utf8(code_points(text)), text);
}

TEST(ReportText, ReplacesWhatIsNoUtf8AndNoXml) {
  const std::string replacement = "\ufffd";
  EXPECT_EQ(escaped("a\xff"
                    "b"),
            "a" + replacement + "b");
  EXPECT_EQ(escaped("\xc3"), replacement);                                      // cut short
  EXPECT_EQ(escaped("\xc0\xaf"), replacement + replacement);                    // overlong
  EXPECT_EQ(escaped("\xe0\x80\xaf"), replacement + replacement + replacement);  // overlong
  EXPECT_EQ(escaped("\xed\xa0\x80"), replacement);                              // a surrogate
  EXPECT_EQ(escaped("\xef\xbf\xbf"), replacement);                              // U+FFFF
  EXPECT_EQ(escaped(std::string("a\0\x1b"
                                "b",
                                4)),
            "a" + replacement + replacement + "b");
  EXPECT_EQ(escaped("a\tb\nc"), "a\tb\nc");
}

TEST(ReportText, WidthGrowsWithTextAndSize) {
  EXPECT_EQ(text_width("", 12), 0);
  EXPECT_LT(text_width("ill", 12), text_width("WWW", 12));
  EXPECT_DOUBLE_EQ(text_width("abc", 24), 2 * text_width("abc", 12));
  EXPECT_DOUBLE_EQ(text_width("abcdef", 12), text_width("abc", 12) + text_width("def", 12));
  EXPECT_GE(text_width("\u4e2d", 12), 12);  // full width
}

TEST(ReportText, ElidesToTheWidth) {
  const std::string text = "sequential read of a remote node";
  EXPECT_EQ(elided(text, 12, text_width(text, 12)), text);
  for (double width = 0; width < text_width(text, 12); width += 3) {
    const std::string shown = elided(text, 12, width);
    EXPECT_LE(text_width(shown, 12), width);
    if (!shown.empty()) {
      EXPECT_TRUE(shown.ends_with("\u2026"));
      EXPECT_EQ(shown.substr(0, shown.size() - 3), text.substr(0, shown.size() - 3));
    }
  }
  EXPECT_EQ(elided(text, 12, 5), "");
  EXPECT_EQ(elided("sequential read", 12, text_width("sequential \u2026", 12)), "sequential\u2026");
}

}  // namespace
}  // namespace tandem::report
