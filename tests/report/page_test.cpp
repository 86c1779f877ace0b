#include "tools/report/page.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/report/sample_charts.h"
#include "tests/support/error_message.h"

namespace tandem::report {
namespace {

using ::testing::AllOf;
using testing::error_message;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(ReportPage, EscapesEverything) {
  const std::string bad = "<b>&\"'";
  const std::string good = "&lt;b&gt;&amp;&quot;&#39;";
  Page page(bad, bad);
  page.section(bad);
  page.paragraph(bad);
  page.note(Note::caution, bad, bad);
  page.table({bad, {bad}, {{{.text = bad, .range = bad, .tooltip = bad}}}});
  page.figure(BarChart{.title = bad, .value = {bad}, .bars = {{bad, 1}}}, bad);
  const std::string html = page.html();
  EXPECT_THAT(html, Not(HasSubstr(bad)));
  std::size_t count = 0;
  for (auto at = html.find(good); at != std::string::npos; at = html.find(good, at + 1)) ++count;
  // title twice, subtitle, heading, paragraph, note twice, caption, header, cell, range, tooltip, figure's caption, and
  // in each of two pictures: description, axis, label, tooltip.
  EXPECT_EQ(count, 13u + 2u * 4u);
}

TEST(ReportPage, SetsCodeBetweenBackticks) {
  Page page("t");
  page.paragraph("run `tandem plan --json <F>` or ` alone");
  EXPECT_THAT(page.html(), HasSubstr("<p>run <code>tandem plan --json &lt;F&gt;</code> or ` alone</p>"));
}

TEST(ReportPage, SetsNumbersRightWithRangeAndBadgeInColumnsOfTheirOwn) {
  Page page("t");
  page.table({"",
              {"name", "value"},
              {{{"read"}, number_cell(12.34, 11, 14, Badge::measured)}, {{"peak"}, number_cell(307.2)}, {}}});
  const std::string html = page.html();
  EXPECT_THAT(html,
              AllOf(HasSubstr("<th scope=\"col\">name</th><th scope=\"col\" class=\"number beside\">value</th>"),
                    HasSubstr("<td>read</td><td class=\"number beside\">12.3</td><td class=\"range beside\">11.0\u2013"
                              "14.0</td><td class=\"kind\"><span class=\"badge measured\">measured</span></td>"),
                    HasSubstr("<td class=\"number beside\">307</td><td class=\"range beside\"></td><td></td>")));
  EXPECT_THAT(html, Not(HasSubstr("class=\"badge published")));
}

TEST(ReportPage, RefusesRowsWithTooManyCellsAndNumbersThatAreNone) {
  Page page("t");
  EXPECT_THAT(error_message([&] {
                page.table({"figures", {"a"}, {{}, {{"x"}, {"y"}}}});
              }),
              HasSubstr("table 'figures': row 1 has 2 cells; the header has 1"));
  EXPECT_THAT(error_message([] { number_cell(std::nan("")); }), HasSubstr("nan"));
}

TEST(ReportPage, NumbersFiguresAndListsThreeSections) {
  Page page("t");
  page.section("one");
  page.section("two");
  EXPECT_THAT(page.html(), Not(HasSubstr("<nav>")));
  page.section("three");
  page.figure(sample_bars(), "first");
  page.figure(sample_bars(), "second");
  EXPECT_THAT(page.html(),
              AllOf(HasSubstr("<a href=\"#section-3\">three</a>"), HasSubstr("<h2 id=\"section-3\">three</h2>"),
                    HasSubstr("<b>Figure 1.</b> first"), HasSubstr("<b>Figure 2.</b> second")));
}

}  // namespace
}  // namespace tandem::report
