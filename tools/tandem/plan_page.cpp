#include "tools/tandem/plan_page.h"

#include <algorithm>

#include <fmt/format.h>

#include "tools/report/bar_chart.h"
#include "tools/report/heat_map.h"
#include "tools/report/line_chart.h"
#include "tools/report/timeline.h"
#include "tools/tandem/plan_settings.h"
#include "tools/tandem/report_cells.h"

namespace tandem::cli {
namespace {

using plan::Prediction;

constexpr int kShownLayers = 4;  // of a step's timeline: all look alike

std::string name_of(const Prediction& p) {
  return fmt::format("{}, {} x {}", to_string(p.settings.method), p.settings.batch, context_text(p.settings.context));
}

report::BarChart speeds_of(const std::vector<Prediction>& predictions) {
  report::BarChart chart{"Predicted tokens per second", {"tokens per second, all sequences together"}, {}};
  for (const Prediction& p : predictions)
    chart.bars.push_back({name_of(p), p.tokens_per_s.value, p.tokens_per_s.low, p.tokens_per_s.high,
                          static_cast<std::size_t>(p.settings.method)});
  return chart;
}

/// The first layers of a step, lane by lane.
report::Timeline timeline_of(const Prediction& prediction) {
  report::Timeline chart{"A decode step", {}, {}};
  for (const plan::Lane lane : plan::kLanes) {
    report::Lane shown{to_string(lane), {}};
    for (const plan::Event& event : prediction.schedule.events) {
      if (event.lane != lane || event.layer >= kShownLayers || event.end <= event.start) continue;
      auto kind = std::find(chart.kinds.begin(), chart.kinds.end(), event.label);
      if (kind == chart.kinds.end()) kind = chart.kinds.insert(kind, event.label);
      shown.spans.push_back({event.start * 1e6, event.end * 1e6, event.label,
                             static_cast<std::size_t>(kind - chart.kinds.begin()),
                             fmt::format("layer {}", event.layer)});
    }
    if (!shown.spans.empty()) chart.lanes.push_back(std::move(shown));
  }
  return chart;
}

/// Tokens per second by context and batch, of the fastest method; none unless there are several of both.
std::optional<report::HeatMap> map_of(const std::vector<Prediction>& predictions) {
  std::vector<std::int64_t> contexts;
  std::vector<int> batches;
  for (const Prediction& p : predictions) {
    if (std::find(contexts.begin(), contexts.end(), p.settings.context) == contexts.end())
      contexts.push_back(p.settings.context);
    if (std::find(batches.begin(), batches.end(), p.settings.batch) == batches.end())
      batches.push_back(p.settings.batch);
  }
  std::sort(contexts.begin(), contexts.end());
  std::sort(batches.begin(), batches.end());
  if (contexts.size() < 2 || batches.size() < 2) return {};
  report::HeatMap map;
  map.title = "Tokens per second by context and batch";
  map.x_label = "context, tokens";
  map.y_label = "sequences";
  map.value.label = "tokens per second";
  for (const std::int64_t context : contexts) map.x.push_back(context_text(context));
  for (const int batch : batches) map.y.push_back(std::to_string(batch));
  map.values.resize(map.x.size() * map.y.size());
  for (const Prediction& p : predictions) {
    const auto column = std::find(contexts.begin(), contexts.end(), p.settings.context) - contexts.begin();
    const auto row = std::find(batches.begin(), batches.end(), p.settings.batch) - batches.begin();
    auto& cell = map.values[static_cast<std::size_t>(row) * map.x.size() + static_cast<std::size_t>(column)];
    cell = std::max(cell.value_or(0), p.tokens_per_s.value);
  }
  return map;
}

std::vector<report::Cell> row_of(const Prediction& p) {
  const auto optional_cell = [](const std::optional<plan::Estimate>& e) {
    return e ? estimate_cell(*e) : text_cell("-", true);
  };
  return {text_cell(context_text(p.settings.context), true),
          text_cell(std::to_string(p.settings.batch), true),
          text_cell(to_string(p.settings.method)),
          estimate_cell(p.tokens_per_s, badge_of(p.kind)),
          estimate_cell(p.step_ms),
          text_cell(std::to_string(p.max_batch), true),
          report::number_cell(p.memory.device() / 1e9),
          report::number_cell(p.memory.host() / 1e9),
          text_cell(to_string(p.schedule.bottleneck())),
          optional_cell(p.joules_per_token),
          optional_cell(p.usd_per_million_tokens)};
}

const std::vector<std::string> kColumns = {"context", "batch",   "method",   "tokens/s",  "ms a step",    "would fit",
                                           "GPU GB",  "host GB", "bound by", "J a token", "USD a million"};

void add_honesty(report::Page& page) {
  page.note(
      report::Note::caution, "Predicted, not measured",
      "A range has all figures at their bounds together, widened by what predictions were off where they could be "
      "checked (`tandem plan validate`). The method tandem beside a GPU could not be checked yet.");
}

/// Tokens per second of each machine's fastest method over the context.
report::LineChart lines_of(const std::vector<PlanRound>& rounds) {
  report::LineChart chart;
  chart.title = "Tokens per second over the context";
  chart.x = {"context, tokens", report::ScaleKind::log, report::Numbers::binary};
  chart.y.label = "tokens per second";
  for (const PlanRound& round : rounds) {
    for (std::size_t i = 0; i < round.contenders.size(); ++i) {
      if (chart.series.size() <= i) chart.series.push_back({round.contenders[i].machine, {}});
      if (round.contenders[i].methods.empty()) continue;
      const plan::Estimate& speed = round.contenders[i].methods.front().tokens_per_s;
      chart.series[i].points.push_back({static_cast<double>(round.context), speed.value, speed.low, speed.high});
    }
  }
  return chart;
}

report::BarChart bars_of(const std::vector<PlanRound>& rounds) {
  report::BarChart chart{"Machine against machine", {"tokens per second, all sequences together"}, {}};
  for (const PlanRound& round : rounds)
    for (std::size_t i = 0; i < round.contenders.size(); ++i)
      for (const Prediction& p : round.contenders[i].methods)
        chart.bars.push_back({round.contenders[i].machine + ": " + name_of(p), p.tokens_per_s.value, p.tokens_per_s.low,
                              p.tokens_per_s.high, i});
  return chart;
}

void add_timeline(const std::string& machine, const Prediction& prediction, report::Page& page) {
  page.figure(timeline_of(prediction), fmt::format("{}, {}: the first {} layers of a step, as expected.", machine,
                                                   name_of(prediction), kShownLayers));
}

/// Lines over the context have one batch and several contexts.
bool has_lines(const std::vector<PlanRound>& rounds) {
  const auto same_batch = [&](const PlanRound& round) { return round.batch == rounds.front().batch; };
  return rounds.size() > 1 && std::all_of(rounds.begin(), rounds.end(), same_batch);
}

}  // namespace

std::string html_of(const PlanReport& report) {
  report::Page page(report.machine, report.model);
  add_honesty(page);
  page.section("Speed");
  page.figure(speeds_of(report.predictions), "Whiskers: the range of each prediction. One colour a method.");
  if (const auto map = map_of(report.predictions)) page.figure(*map, "Of the fastest method that fits.");
  report::Table table{"", kColumns, {}};
  for (const Prediction& p : report.predictions) table.rows.push_back(row_of(p));
  page.table(table);
  for (const std::string& why : report.misfits) page.note(report::Note::information, "Does not fit", why);
  page.section("A step");
  add_timeline(report.machine, report.predictions.front(), page);
  page.section("What the predictions rest on");
  report::Table figures{"", {"figure", "value", "unit", "where from"}, {}};
  for (const auto& [name, unit, figure] : report.figures)
    figures.rows.push_back({text_cell(name), figure_cell(figure), text_cell(unit), text_cell(figure.source)});
  page.table(figures);
  return page.html();
}

std::string html_of(const std::string& model, const std::vector<PlanRound>& rounds, const std::string& note) {
  std::string title;
  for (const plan::Contender& contender : rounds.front().contenders)
    title += (title.empty() ? "" : " against ") + contender.machine;
  report::Page page(title, model);
  add_honesty(page);
  if (!note.empty()) page.paragraph(note);
  page.section("In a sentence");
  for (const PlanRound& round : rounds)
    for (std::size_t i = 1; i < round.contenders.size(); ++i)
      page.paragraph(context_text(round.context) +
                     " tokens: " + verdict(round.contenders.front(), round.contenders[i]));
  page.section("Speed");
  if (has_lines(rounds)) page.figure(lines_of(rounds), "Each machine with its fastest method; bands are ranges.");
  page.figure(bars_of(rounds), "Every method that fits. Whiskers: the range of each prediction; one colour a machine.");
  report::Table table{"", {"machine"}, {}};
  table.header.insert(table.header.end(), kColumns.begin(), kColumns.end());
  for (const PlanRound& round : rounds) {
    for (const plan::Contender& contender : round.contenders) {
      for (const Prediction& p : contender.methods) {
        auto row = row_of(p);
        row.insert(row.begin(), text_cell(contender.machine));
        table.rows.push_back(std::move(row));
      }
      if (contender.methods.empty())
        table.rows.push_back({text_cell(contender.machine), text_cell(context_text(round.context), true), text_cell(""),
                              text_cell("nothing fits")});
    }
  }
  page.table(table);
  page.section("A step of each");
  for (const plan::Contender& contender : rounds.back().contenders)
    if (!contender.methods.empty()) add_timeline(contender.machine, contender.methods.front(), page);
  return page.html();
}

}  // namespace tandem::cli
