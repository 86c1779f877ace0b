#include "tools/tandem/split_report.h"

#include <algorithm>

#include <fmt/format.h>

#include "tools/tandem/statistics.h"
#include "tools/tandem/table.h"

namespace tandem::cli {
namespace {

std::string range_text(const std::optional<plan::TimeRange>& range, double unit = 1) {
  if (!range) return "not predicted";
  return fmt::format("{} ({}-{})", short_number(range->value / unit), short_number(range->low / unit),
                     short_number(range->high / unit));
}

Json range_json(const std::optional<plan::TimeRange>& range, double unit = 1) {
  if (!range) return {};
  return {{"value", range->value / unit}, {"low", range->low / unit}, {"high", range->high / unit}};
}

std::string percent(double share) { return fmt::format("{:.1f}", 100 * share); }

std::string table_of(const SplitSection& section) {
  Table table({"split", "predicted us", "us", "off %", "window", "select", "attend", "rows %", "MiB", "error", ""});
  for (const SplitResult* result : section.results) {
    std::vector<std::string> cells = {name_of(result->at.split), range_text(result->predicted)};
    if (const auto& sample = result->measured) {
      const std::string off =
          result->predicted ? fmt::format("{:+.1f}", 100 * (result->predicted->value / sample->us - 1)) : "";
      for (const std::string& cell :
           {short_number(sample->us), off, short_number(sample->window_us), short_number(sample->select_us),
            short_number(sample->attend_us), percent(sample->gathered_share),
            fmt::format("{:.1f}", sample->bytes / (1 << 20)), short_number(sample->error)})
        cells.push_back(cell);
      if (result == section.choice.best->split)
        cells.emplace_back(section.choice.reaches_target ? "<- take this" : "<- nearest");
    } else {
      cells.push_back("not measured");
    }
    table.add_row(std::move(cells));
  }
  return table.text();
}

/// Of all layers, each number of dense ones.
std::string steps_table_of(const SplitSection& section) {
  Table table({"split", "dense layers", "predicted ms", "ms", "tokens/s", "error", ""});
  for (const SplitStep& step : section.steps) {
    table.add_row({name_of(step.split->at.split), std::to_string(step.dense_layers), range_text(step.predicted(), 1000),
                   short_number(step.us() / 1000), short_number(step.tokens_per_second()), short_number(step.error()),
                   step != section.choice.best     ? ""
                   : section.choice.reaches_target ? "<- take this"
                                                   : "<- nearest"});
  }
  return table.text();
}

Json json_of(const SplitSample& sample) {
  return {{"us", sample.us},
          {"median_us", sample.median_us},
          {"stage_us",
           {{"append", sample.append_us},
            {"window", sample.window_us},
            {"select", sample.select_us},
            {"attend", sample.attend_us},
            {"merge", sample.merge_us}}},
          {"bytes_per_step", sample.bytes},
          {"host_rows", sample.host_rows},
          {"rows_share", sample.gathered_share},
          {"window_bytes", sample.window_bytes},
          {"host_bytes", sample.host_bytes},
          {"error", {{"mean", sample.error}, {"p95", sample.error_p95}}}};
}

Json json_of(const SplitCase& at, const SplitShape& shape) {
  return {{"name", name_of(at.split)},
          {"tokens", at.tokens},
          {"batch", at.batch},
          {"config", config_of(at.split, shape, shape.num_layers)}};
}

Json json_of(const SplitResult& result, const SplitShape& shape) {
  Json object = json_of(result.at, shape);
  object["predicted_us"] = range_json(result.predicted);
  object["fitted"] = result.fitted;
  object["measured"] = result.measured ? json_of(*result.measured) : Json();
  if (!result.not_measured.empty()) object["not_measured"] = result.not_measured;
  return object;
}

Json json_of(const SplitStep& step) {
  return {{"name", name_of(step)},
          {"tokens", step.split->at.tokens},
          {"batch", step.split->at.batch},
          {"split", name_of(step.split->at.split)},
          {"dense_layers", step.dense_layers},
          {"ms", step.us() / 1000},
          {"predicted_ms", range_json(step.predicted(), 1000)},
          {"tokens_per_second", step.tokens_per_second()},
          {"error", step.error()}};
}

Json json_of(const SplitSection& section) {
  const SplitChoice& choice = section.choice;
  Json object = {{"tokens", section.tokens},
                 {"batch", section.batch},
                 {"take", name_of(choice.best->split->at.split)},
                 {"dense_layers", choice.best->dense_layers},
                 {"ms", choice.best->us() / 1000},
                 {"tokens_per_second", choice.best->tokens_per_second()},
                 {"error", choice.best->error()},
                 {"reaches_target", choice.reaches_target},
                 {"reason", choice.reason},
                 {"foretold", choice.foretold ? Json(name_of(*choice.foretold)) : Json()},
                 {"foretold_over_best", choice.foretold ? Json(choice.foretold->us() / choice.best->us()) : Json()}};
  if (choice.best->dense_layers > 0) object["advice"] = advice_of(*choice.best);
  return object;
}

}  // namespace

std::vector<SplitSection> sections_of(const SplitReport& report) {
  std::vector<SplitSection> sections;
  for (const SplitResult& result : report.results) {
    const auto& at = result.at;
    if (sections.empty() || sections.back().tokens != at.tokens || sections.back().batch != at.batch)
      sections.push_back({at.tokens, at.batch, {}, {}, {}});
    sections.back().results.push_back(&result);
  }
  for (SplitSection& section : sections) {
    std::vector<const SplitResult*> measured;
    for (const SplitResult* result : section.results)
      if (result->measured) measured.push_back(result);
    section.steps = steps_of(measured, report.dense_layers, report.shape.num_layers);
    if (!section.steps.empty()) section.choice = choose(section.steps, report.target);
  }
  return sections;
}

std::string data_of(const SplitReport& report) {
  return report.trace.empty() ? "made-up heads" : fmt::format("layer {} of {}", report.trace_layer, report.trace);
}

std::string unpredicted_note(const SplitReport& report) {
  const bool all = std::all_of(report.results.begin(), report.results.end(),
                               [](const SplitResult& result) { return result.predicted.has_value(); });
  if (all) return {};
  return "not predicted: how many rows LSH tables gather, and sketches that are to meet an error, depends on the data; "
         "it is predicted between the contexts of --fit-context, over made-up heads";
}

std::string text_of(const SplitReport& report) {
  std::string text = fmt::format(
      "A decode step of one layer{}, {} query heads on {} KV heads of {}, over {},\n"
      "cold data, microseconds: lower quartiles; "
      "window, select, attend: worker time / threads, medians.\n",
      report.model.empty() ? "" : " of " + report.model, report.shape.num_q_heads, report.shape.num_kv_heads,
      report.shape.head_dim, data_of(report));
  for (const SplitSection& section : sections_of(report)) {
    text += fmt::format("\n{} tokens, batch {}\n{}", section.tokens, section.batch, table_of(section));
    if (!section.choice.best) {
      text += fmt::format("nothing was measured: {}\n", section.results.front()->not_measured);
      continue;
    }
    if (report.dense_layers != std::vector<std::int32_t>{0})
      text += fmt::format("a step of all {} layers\n{}", report.shape.num_layers, steps_table_of(section));
    const SplitChoice& choice = section.choice;
    text += fmt::format("take: {}\n  {}\n", name_of(*choice.best), choice.reason);
    if (choice.best->dense_layers > 0) text += fmt::format("  {}\n", advice_of(*choice.best));
    if (choice.foretold && choice.foretold != choice.best)
      text += fmt::format("  predictions alone would have taken {}, {:.1f} % slower\n", name_of(*choice.foretold),
                          100 * (choice.foretold->us() / choice.best->us() - 1));
  }
  const std::string unpredicted = unpredicted_note(report);
  if (!unpredicted.empty()) text += "\n" + unpredicted + "\n";
  const SplitErrors errors = errors_of(report.results);
  if (errors.cases > 0)
    text += fmt::format(
        "\npredictions, of {} cases that they were not made from: off by {} % (median), {} % (90th percentile), {} % "
        "at "
        "worst\n",
        errors.cases, percent(errors.median), percent(errors.p90), percent(errors.worst));
  return text;
}

Json json_of(const SplitReport& report) {
  Json object = {
      {"model", report.model.empty() ? Json() : Json(report.model)},
      {"trace", report.trace.empty() ? Json() : Json({{"path", report.trace}, {"layer", report.trace_layer}})},
      {"shape",
       {{"num_layers", report.shape.num_layers},
        {"num_q_heads", report.shape.num_q_heads},
        {"num_kv_heads", report.shape.num_kv_heads},
        {"head_dim", report.shape.head_dim}}},
      {"target", {{"error", report.target.error}, {"tokens_per_second", report.target.tokens_per_second}}},
      {"fit", Json::array()},
      {"cases", Json::array()},
      {"steps", Json::array()},
      {"choices", Json::array()}};
  for (const SplitSample& sample : report.fit) {
    Json each = json_of(sample.at, report.shape);
    each.update(json_of(sample));
    object["fit"].push_back(each);
  }
  for (const SplitResult& result : report.results) object["cases"].push_back(json_of(result, report.shape));
  for (const SplitSection& section : sections_of(report)) {
    for (const SplitStep& step : section.steps) object["steps"].push_back(json_of(step));
    if (section.choice.best) object["choices"].push_back(json_of(section));
  }
  const SplitErrors errors = errors_of(report.results);
  object["not_predicted"] = unpredicted_note(report);
  object["prediction"] = {
      {"cases", errors.cases}, {"median", errors.median}, {"p90", errors.p90}, {"worst", errors.worst}};
  object["machine"] = report.machine;
  return object;
}

}  // namespace tandem::cli
