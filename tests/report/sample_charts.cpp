#include "tests/report/sample_charts.h"

#include <cmath>

#include <fmt/format.h>

namespace tandem::report {

LineChart sample_lines() {
  LineChart chart{.title = "time of a step against the context",
                  .x = {"tokens", ScaleKind::log, Numbers::binary},
                  .y = {"ms per step", ScaleKind::log},
                  .series = {}};
  struct Shape {
    const char* name;
    double base, per_token, exponent, spread;
    bool dashed;
  };
  for (const Shape& shape : {Shape{"dense, host", 4, 2.1e-3, 1, 0.08, false},
                             {"top-k", 5.2, 7e-4, 1, 0.06, false},
                             {"LSH, 10 \u00d7 150", 6.1, 0.016, 0.62, 0.09, false},
                             {"predicted", 5.4, 0.015, 0.62, 0, true}}) {
    LineSeries series{.name = shape.name, .dashed = shape.dashed};
    for (double tokens = 4096; tokens <= 1 << 20; tokens *= 2) {
      const double y = shape.base + shape.per_token * std::pow(tokens, shape.exponent);
      series.points.push_back({.x = tokens, .y = y});
      if (shape.spread > 0) {
        series.points.back().low = y * (1 - shape.spread);
        series.points.back().high = y * (1 + shape.spread);
      }
    }
    chart.series.push_back(series);
  }
  return chart;
}

BarChart sample_bars() {
  return {.title = "bandwidth of host memory",
          .value = {"GB/s"},
          .bars = {{"sequential read", 187.4, 183, 190, 0},
                   {"copy", 162, 155, 166, 0},
                   {"triad", 158, 151, 163, 0},
                   {"gather, 512 bytes", 121.8, 117, 126, 1},
                   {"gather, 256 bytes", 84.6, 79, 91, 1},
                   {"read, other node", 68.2, 66, 70, 5},
                   {"read, one core", 13.9, 13.1, 14.2, 5}}};
}

HeatMap sample_heat() {
  HeatMap map{.title = "error by bits and tables",
              .x_label = "tables",
              .y_label = "bits per code",
              .x = {"25", "50", "75", "100", "150", "200", "300", "400"},
              .y = {"6", "7", "8", "9", "10", "11", "12"},
              .value = {.label = "error, %"},
              .values = {}};
  for (int row = 0; row < 7; ++row)
    for (int column = 0; column < 8; ++column) {
      const double tables = std::stod(map.x[static_cast<std::size_t>(column)]);
      if (row > 4 && column > 5)
        map.values.emplace_back();
      else
        map.values.emplace_back(31.0 * std::exp(-tables / 130) * (0.25 + std::pow(row - 2.6, 2) / 9) + 0.35);
    }
  return map;
}

Roofline sample_roofline() {
  return {.title = "roofline of the machine",
          .bandwidths = {{"GPU memory", 1935, {}, {}},
                         {"host memory, read", 187.4, 170, 200},
                         {"host memory, gather", 84.6, 79, 91},
                         {"link", 25.1, {}, {}}},
          .peaks = {{"GPU, fp16 tensor cores", 312'000}, {"processor, fp32", 5200}},
          .kernels = {{"window attention", 1.9, 2900},
                      {"sparse attention, host", 0.9, 71},
                      {"sketch scan", 0.45, 66},
                      {"SimHash codes", 6.5, 790},
                      {"merge", 0.42, 610},
                      {"QKV projection", 31, 48'000},
                      {"MLP", 33, 55'000},
                      {"logits", 30, 51'000},
                      {"RMSNorm", 0.5, 760},
                      {"RoPE", 0.55, 800}}};
}

Timeline sample_timeline() {
  Timeline timeline{
      .title = "three layers of a step",
      .kinds = {"projections", "window attention", "host attention", "copies", "merge"},
      .lanes = {{"GPU", {}}, {"link down", {}}, {"link up", {}}, {"workers, node 0", {}}, {"workers, node 1", {}}}};
  auto& lanes = timeline.lanes;
  for (int layer = 0; layer < 3; ++layer) {
    const double start = 1150.0 * layer;
    const std::string detail = fmt::format("layer {}", layer);
    lanes[0].spans.push_back({start, start + 190, "QKV", 0, detail});
    lanes[0].spans.push_back({start + 190, start + 520, "window", 1, detail});
    lanes[0].spans.push_back({start + 905, start + 950, "merge", 4, detail});
    lanes[0].spans.push_back({start + 950, start + 1150, "MLP", 0, detail});
    lanes[1].spans.push_back({start + 195, start + 222, "q", 3, detail});
    lanes[2].spans.push_back({start + 872, start + 903, "out", 3, detail});
    for (std::size_t node = 0; node < 2; ++node)
      for (int task = 0; task < 16; ++task) {
        const double begin = start + 225 + 40 * task + 3 * static_cast<double>(node);
        lanes[3 + node].spans.push_back(
            {begin, begin + 36 + (task * 7 + layer * 5) % 4, fmt::format("head {}", task), 2, detail});
      }
  }
  return timeline;
}

Scatter sample_scatter() {
  Scatter chart{.title = "predicted against measured time of a step",
                .quantity = {"ms per step", ScaleKind::log},
                .groups = {"V100, 2 sockets", "A100, 2 sockets", "H100, 1 socket"},
                .points = {}};
  const char* const names[] = {"8K", "16K", "32K", "64K", "128K", "256K"};
  const double ratios[] = {1.04, 0.96, 1.09, 0.93, 1.18, 0.97, 1.02, 1.12, 0.88,
                           1.01, 0.95, 1.34, 0.99, 1.06, 0.91, 1.03, 0.98, 0.82};
  for (std::size_t group = 0; group < 3; ++group)
    for (std::size_t i = 0; i < 6; ++i) {
      const double measured = (14.0 - 4.1 * static_cast<double>(group)) * std::pow(1.72, static_cast<double>(i));
      chart.points.push_back({names[i], measured, measured * ratios[group * 6 + i], group});
    }
  return chart;
}

}  // namespace tandem::report
