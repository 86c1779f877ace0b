#include <cmath>
#include <string>

#include <fmt/format.h>

#include "tests/report/sample_charts.h"

namespace tandem::report {
namespace {

std::string long_name(int index) {
  return fmt::format("{}: a name with <markup> & \"quotes\", \u00fcml\u00e4uts, \u4e2d\u6587 and {}", index,
                     std::string(90, 'W'));
}

void add_empty(Page& page) {
  page.section("No data");
  page.figure(LineChart{.title = "none", .x = {"x"}, .y = {"y"}, .series = {}}, "lines");
  page.figure(LineChart{.title = "none",
                        .x = {"x", ScaleKind::log},
                        .y = {"y", ScaleKind::log},
                        .series = {{.name = "empty", .points = {}}}},
              "lines");
  page.figure(BarChart{.title = "none", .value = {"GB/s"}, .bars = {}}, "bars");
  page.figure(HeatMap{}, "heat map");
  page.figure(HeatMap{.title = "none",
                      .x_label = "x",
                      .y_label = "y",
                      .x = {"a", "b"},
                      .y = {"c"},
                      .value = {},
                      .values = {{}, {}}},
              "heat map");
  page.figure(Roofline{}, "roofline");
  page.figure(Timeline{}, "timeline");
  page.figure(Timeline{.title = "none", .kinds = {}, .lanes = {{"idle", {}}, {"idle too", {}}}}, "timeline");
  page.figure(Scatter{}, "scatter");
}

void add_single(Page& page) {
  page.section("One point");
  page.figure(
      LineChart{.title = "one", .x = {"x"}, .y = {"y"}, .series = {{.name = "one", .points = {{.x = 3, .y = 0}}}}},
      "lines");
  page.figure(LineChart{.title = "one",
                        .x = {"x", ScaleKind::log, Numbers::binary},
                        .y = {"y", ScaleKind::log},
                        .series = {{.name = "one", .points = {{.x = 3000, .y = 1e-7, .low = 1e-9, .high = 1e-7}}}}},
              "lines");
  page.figure(BarChart{.title = "one", .value = {"x"}, .bars = {{.label = "zero", .value = 0}}}, "bars");
  page.figure(
      HeatMap{.title = "one", .x_label = "x", .y_label = "y", .x = {"a"}, .y = {"b"}, .value = {"v"}, .values = {7}},
      "heat map");
  page.figure(Roofline{.title = "one", .bandwidths = {}, .peaks = {}, .kernels = {{"one", 1, 1}}}, "roofline");
  page.figure(Roofline{.title = "one", .bandwidths = {{"one", 100, {}, {}}}, .peaks = {}, .kernels = {}}, "roofline");
  page.figure(Roofline{.title = "one", .bandwidths = {}, .peaks = {{"one", 100}}, .kernels = {}}, "roofline");
  page.figure(Timeline{.title = "one", .kinds = {}, .lanes = {{"lane", {{5, 5, "instant", 0, ""}}}}}, "timeline");
  page.figure(Scatter{.title = "one", .quantity = {"s"}, .groups = {}, .points = {{"one", 0, 0, 0}}}, "scatter");
}

void add_long_names(Page& page) {
  page.section(long_name(0));
  LineChart lines{.title = long_name(0), .x = {long_name(1)}, .y = {long_name(2)}, .series = {}};
  BarChart bars{.title = long_name(0), .value = {long_name(1)}, .bars = {}};
  HeatMap map{.title = long_name(0),
              .x_label = long_name(1),
              .y_label = long_name(2),
              .x = {},
              .y = {},
              .value = {long_name(3)},
              .values = {}};
  Roofline roofline{.title = long_name(0), .bandwidths = {}, .peaks = {}, .kernels = {}};
  Timeline timeline{.title = long_name(0), .kinds = {}, .lanes = {}};
  Scatter scatter{.title = long_name(0), .quantity = {long_name(1)}, .groups = {}, .points = {}};
  for (int i = 0; i < 5; ++i) {
    lines.series.push_back({.name = long_name(i), .points = {{.x = 0, .y = 1.0 * i}, {.x = 1e3, .y = 5.0}}});
    bars.bars.push_back({.label = long_name(i), .value = 10.0 * i - 15, .low = 10.0 * i - 20, .high = 10.0 * i});
    map.x.push_back(long_name(i));
    map.y.push_back(long_name(i));
    roofline.bandwidths.push_back({long_name(i), 100.0 + i, {}, {}});
    roofline.peaks.push_back({long_name(i), 5000.0 + i});
    roofline.kernels.push_back({long_name(i), 1.0 + 0.01 * i, 90.0});
    timeline.kinds.push_back(long_name(i));
    timeline.lanes.push_back({long_name(i), {{0, 1e7, long_name(i), 0, ""}}});
    scatter.groups.push_back(long_name(i));
    scatter.points.push_back({long_name(i), 5, 5.0 + 0.01 * i, 0});
  }
  map.values.assign(25, -3.5);
  page.figure(lines, long_name(4));
  page.figure(bars, long_name(5));
  page.figure(map, "heat map");
  page.figure(roofline, "roofline");
  page.figure(timeline, "timeline");
  page.figure(scatter, "scatter");
  page.table({long_name(0), {long_name(1), "number"}, {{{long_name(2)}, number_cell(1e300)}, {{"short"}}}});
}

void add_many(Page& page) {
  page.section("Many and huge");
  LineChart lines{.title = "many", .x = {"x", ScaleKind::log}, .y = {"y", ScaleKind::log}, .series = {}};
  LineChart crowded{.title = "crowded",
                    .x = {"x", ScaleKind::linear, Numbers::plain, false},
                    .y = {"y", ScaleKind::linear, Numbers::si},
                    .series = {}};
  HeatMap map{.title = "many",
              .x_label = "x",
              .y_label = "y",
              .x = {},
              .y = {},
              .value = {"v", ScaleKind::log, Numbers::si},
              .values = {}};
  Timeline timeline{.title = "many", .kinds = {"a", "b", "c"}, .lanes = {{"GPU", {}}, {"one after another", {}}}};
  Scatter scatter{.title = "many", .quantity = {"ms"}, .groups = {}, .points = {}};
  Roofline roofline{.title = "many", .bandwidths = {}, .peaks = {}, .kernels = {}};
  for (int i = 0; i < 30; ++i) {
    lines.series.push_back({.name = fmt::format("series {}", i),
                            .points = {{.x = 1e-300, .y = 1e300}, {.x = 1e300, .y = std::pow(10.0, -10 * i)}}});
    crowded.series.push_back(
        {.name = fmt::format("s{}", i),
         .points = {{.x = 1e15, .y = -1e300}, {.x = 1e15 + 1, .y = 1e300}, {.x = 1e15 + 2 + i, .y = 1e299 * (i % 3)}}});
    scatter.points.push_back({fmt::format("point {}", i), 100.0 + i % 5, 100.0 + i % 7, 0});
    roofline.kernels.push_back({fmt::format("kernel number {}", i), 1.0 + 0.05 * (i % 6), 80.0 + i});
    roofline.bandwidths.push_back({fmt::format("memory {}", i), 100.0 * (1 + i % 4) + i, {}, {}});
    roofline.peaks.push_back({fmt::format("peak {}", i), 3000.0 * (1 + i % 3) + i});
  }
  for (int i = 0; i < 140; ++i) map.x.push_back(fmt::format("column {}", i));
  for (int i = 0; i < 90; ++i) map.y.push_back(fmt::format("row {}", i));
  for (int i = 0; i < 140 * 90; ++i) map.values.emplace_back(std::pow(10.0, i % 50));
  for (int i = 0; i < 600; ++i) {
    timeline.lanes[0].spans.push_back({10.0 * (i / 6), 10.0 * (i / 6) + 8, "k", static_cast<std::size_t>(i % 3), ""});
    timeline.lanes[1].spans.push_back({3.0 * i, 3.0 * i + 2.5, fmt::format("task {}", i), 2, "detail"});
  }
  page.figure(lines, "lines");
  page.figure(crowded, "lines");
  page.figure(map, "heat map");
  page.figure(timeline, "timeline");
  page.figure(scatter, "scatter");
  page.figure(roofline, "roofline");
}

}  // namespace

Page stress_page() {
  Page page("What charts must survive \u2014 <b>markup</b> & \"quotes\"",
            "a broken byte: \xff, an unpaired ` backtick");
  add_empty(page);
  add_single(page);
  add_long_names(page);
  add_many(page);
  return page;
}

}  // namespace tandem::report
