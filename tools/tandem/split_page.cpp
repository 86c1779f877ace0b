#include "tools/tandem/split_page.h"

#include <algorithm>

#include <fmt/format.h>

#include "tools/report/bar_chart.h"
#include "tools/report/page.h"
#include "tools/report/scatter.h"
#include "tools/tandem/statistics.h"

namespace tandem::cli {
namespace {

using report::Badge;
using report::Cell;
using report::number_cell;

std::string shape_text(const std::string& model, const SplitShape& shape) {
  return fmt::format("{}{} layers of {} query heads on {} KV heads of {} dimensions", model.empty() ? "" : model + ": ",
                     shape.num_layers, shape.num_q_heads, shape.num_kv_heads, shape.head_dim);
}

Cell text_cell(std::string text) {
  Cell cell;
  cell.text = std::move(text);
  return cell;
}

Cell range_cell(const std::optional<plan::TimeRange>& range, double unit) {
  if (!range) return text_cell("not predicted");
  return number_cell(range->value / unit, range->low / unit, range->high / unit, Badge::none);
}

report::Table table_of(const SplitSection& section) {
  report::Table table{
      "Microseconds of a decode step of one layer",
      {"split", "measured", "predicted", "off", "window", "select", "attend", "rows", "MiB read", "error"},
      {}};
  for (const SplitResult* result : section.results) {
    const bool taken = section.choice.best && result == section.choice.best->split;
    std::vector<Cell> row = {text_cell(name_of(result->at.split) + (taken ? "  (take this)" : ""))};
    const Cell predicted = range_cell(result->predicted, 1);
    if (!result->measured) {
      row.push_back(text_cell("not measured"));
      row.push_back(predicted);
      table.rows.push_back(std::move(row));
      continue;
    }
    const SplitSample& sample = *result->measured;
    row.push_back(number_cell(sample.us));
    row.push_back(predicted);
    Cell off =
        text_cell(result->predicted ? fmt::format("{:+.0f} %", 100 * (result->predicted->value / sample.us - 1)) : "");
    off.number = true;
    row.push_back(off);
    for (const double us : {sample.window_us, sample.select_us, sample.attend_us}) row.push_back(number_cell(us));
    Cell rows = text_cell(fmt::format("{:.1f} %", 100 * sample.gathered_share));
    rows.number = true;
    row.push_back(rows);
    row.push_back(number_cell(sample.bytes / (1 << 20)));
    row.push_back(number_cell(sample.error));
    table.rows.push_back(std::move(row));
  }
  return table;
}

report::Table steps_table_of(const SplitSection& section, std::int32_t num_layers) {
  report::Table table{fmt::format("Milliseconds of a decode step of all {} layers", num_layers),
                      {"split", "dense layers", "measured", "predicted", "tokens/s", "error"},
                      {}};
  for (const SplitStep& step : section.steps) {
    table.rows.push_back(
        {text_cell(name_of(step.split->at.split) + (step == section.choice.best ? "  (take this)" : "")),
         number_cell(step.dense_layers), number_cell(step.us() / 1000), range_cell(step.predicted(), 1000),
         number_cell(step.tokens_per_second()), number_cell(step.error())});
  }
  return table;
}

/// Where the time of each split goes: the fastest first.
report::BarChart times_of(const SplitSection& section) {
  std::vector<const SplitResult*> by_time;
  for (const SplitResult* result : section.results)
    if (result->measured) by_time.push_back(result);
  std::sort(by_time.begin(), by_time.end(),
            [](const SplitResult* a, const SplitResult* b) { return a->measured->us < b->measured->us; });
  report::BarChart chart{"Time of a decode step by split", {"microseconds per layer"}, {}};
  for (const SplitResult* result : by_time) {
    const SplitSample& sample = *result->measured;
    chart.bars.push_back({fmt::format("{}; error {:.3g}", name_of(result->at.split), sample.error), sample.us,
                          sample.us, std::max(sample.us, sample.median_us),
                          sample.gathered_share < 1 ? std::size_t{0} : std::size_t{1}});
  }
  return chart;
}

report::Scatter accuracy_of(const SplitReport& report) {
  report::Scatter chart{"Predicted against measured time",
                        {"microseconds per layer and step", report::ScaleKind::log},
                        {"not seen by the fit", "part of the fit"},
                        {}};
  for (const SplitResult& result : report.results) {
    if (!result.measured || !result.predicted) continue;
    chart.points.push_back(
        {fmt::format("{} tokens, batch {}: {}", result.at.tokens, result.at.batch, name_of(result.at.split)),
         result.measured->us, result.predicted->value, result.fitted ? std::size_t{1} : std::size_t{0}});
  }
  return chart;
}

void add_section(const SplitSection& section, const SplitReport& report, report::Page& page) {
  page.section(fmt::format("{} tokens, batch {}", section.tokens, section.batch));
  if (!section.choice.best) {
    page.note(report::Note::caution, "Nothing was measured", section.results.front()->not_measured);
    return;
  }
  page.note(section.choice.reaches_target ? report::Note::information : report::Note::caution,
            "Take " + name_of(*section.choice.best), section.choice.reason);
  const std::string advice = advice_of(*section.choice.best);
  if (!advice.empty()) page.note(report::Note::information, "What the engine does", advice);
  page.figure(
      times_of(section),
      "Lower quartiles; whiskers reach to the median. Splits that gather some of the rows in one colour, those that "
      "read all in the other.");
  page.table(table_of(section));
  if (report.dense_layers != std::vector<std::int32_t>{0}) page.table(steps_table_of(section, report.shape.num_layers));
}

}  // namespace

std::string html_of(const SplitReport& report) {
  report::Page page("How to split attention", shape_text(report.model, report.shape));
  page.paragraph("Each split was measured on this machine over " + data_of(report) +
                 ", with the caches emptied before every step; all took "
                 "turns, step by step. Predictions come from made-up heads at the contexts of --fit-context alone. "
                 "Errors are |out - dense| / "
                 "|dense|, mean over "
                 "query heads. `tandem profile split --help` says more.");
  for (const SplitSection& section : sections_of(report)) add_section(section, report, page);
  const std::string unpredicted = unpredicted_note(report);
  if (!unpredicted.empty()) page.note(report::Note::information, "Not everything is predicted", unpredicted);
  const SplitErrors errors = errors_of(report.results);
  page.section("How good were the predictions?");
  if (errors.cases > 0)
    page.paragraph(
        fmt::format("Of {} cases that the fit had not seen, predictions were off by {:.1f} % (median), {:.1f} % (90th "
                    "percentile) and "
                    "{:.1f} % at worst. The fit is made of {} other measurements.",
                    errors.cases, 100 * errors.median, 100 * errors.p90, 100 * errors.worst, report.fit.size()));
  page.figure(accuracy_of(report), "Bands: 10 % and 25 % of the measurement.");
  return page.html();
}

}  // namespace tandem::cli
