// tandem plan validate: predictions beside what was published and measured.
#include <cmath>
#include <memory>
#include <stdexcept>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/plan/measured_steps.h"
#include "tools/plan/rates.h"
#include "tools/tandem/plan_commands.h"
#include "tools/tandem/table.h"

namespace tandem::cli {
namespace {

std::string part_of(const plan::Check& check) {
  return check.fit ? "fitted" : check.unexplained.empty() ? "check" : "unexplained";
}

std::string checks_text(const std::vector<plan::Check>& checks) {
  Table table({"what", "machine", "unit", "known", "predicted", "low", "high", "error", "used as"});
  for (const plan::Check& c : checks)
    table.add_row({c.series + ": " + c.what, c.machine, c.unit, short_number(c.known), short_number(c.predicted.value),
                   short_number(c.predicted.low), short_number(c.predicted.high),
                   fmt::format("{:+.1f} %", 100 * c.error()), part_of(c)});
  return table.text();
}

struct Summary {
  int checks = 0;
  int failed = 0;
  double worst = 0;
  double mean = 0;
  int unexplained = 0;
  double mean_of_all = 0;  ///< with what is unexplained
};

/// Of what was not fitted; `checks`, worst and mean leave out what is listed as unexplained.
Summary summary_of(const std::vector<plan::Check>& checks) {
  Summary summary;
  for (const plan::Check& check : checks) {
    if (!check.passes()) ++summary.failed;
    if (check.fit) continue;
    summary.mean_of_all += std::abs(check.error());
    if (!check.unexplained.empty()) {
      ++summary.unexplained;
      continue;
    }
    ++summary.checks;
    summary.mean += std::abs(check.error());
    summary.worst = std::max(summary.worst, std::abs(check.error()));
  }
  if (summary.checks > 0) summary.mean /= summary.checks;
  if (summary.checks + summary.unexplained > 0) summary.mean_of_all /= summary.checks + summary.unexplained;
  return summary;
}

std::string summary_text(const std::vector<plan::Check>& checks) {
  const Summary s = summary_of(checks);
  std::string text = fmt::format("{} checks that were not fitted: mean error {:.1f} %, worst {:.1f} %\n", s.checks,
                                 100 * s.mean, 100 * s.worst);
  if (s.unexplained > 0)
    text += fmt::format("With the {} unexplained: mean error {:.1f} %\n", s.unexplained, 100 * s.mean_of_all);
  std::string last;
  for (const plan::Check& check : checks) {
    if (check.unexplained.empty() || check.unexplained == last) continue;
    last = check.unexplained;
    text += fmt::format("Unexplained: {}: {}\n", check.what, check.unexplained);
  }
  return text;
}

Json checks_json(const std::vector<plan::Check>& checks) {
  Json rows = Json::array();
  for (const plan::Check& c : checks)
    rows.push_back({{"series", c.series},
                    {"what", c.what},
                    {"machine", c.machine},
                    {"unit", c.unit},
                    {"known", c.known},
                    {"predicted", {{"value", c.predicted.value}, {"low", c.predicted.low}, {"high", c.predicted.high}}},
                    {"error", c.error()},
                    {"fit", c.fit},
                    {"unexplained", c.unexplained}});
  return rows;
}

std::string costs_text(const lsh::CostProfile& costs) {
  std::string text;
  for (const lsh::CostField& field : lsh::kCostFields)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", field.name, short_number(costs.*field.value));
  return text;
}

/// The measured steps, checked with costs fitted on some of them.
std::vector<plan::Check> check_measured(const std::string& folder, const JsonOutput& json) {
  const auto steps = plan::load_measured_steps(folder);
  const lsh::CostProfile costs = plan::fit_step_costs(steps);
  const auto checks = plan::check_steps(steps, costs);
  print(json, fmt::format("\nMeasured steps of one layer on the host, medians. Step costs are fitted on those of one "
                          "worker, one sequence and at most 32,768\ntokens that attend to every row or by a sketch of "
                          "1 or 2 bits:\n{}\n\n",
                          costs_text(costs)) +
                  checks_text(checks) + summary_text(checks));
  return checks;
}

void validate_plan(const PlanCommon& options, const std::string& results) {
  JsonOutput json(options.json);
  const plan::Catalog catalog = catalog_of(options);
  const plan::FittedRates fitted = fit_published(catalog);
  auto checks = check_published(catalog);
  print(json,
        fmt::format("Published points. Fitted on {} of them: the host gathers at {:.2f} % of its peak bandwidth, "
                    "and a layer takes {:.0f} us beside that;\nrms error {:.1f} %, worst {:.1f} %. Predictions use "
                    "{:.2f} % and {:.0f} us, and nothing else is fitted.\n\n",
                    fitted.points, 100 * fitted.share_of_peak, fitted.layer_us, 100 * fitted.rms_error,
                    100 * fitted.worst_error, 100 * plan::kMagicPigShareOfPeak, plan::kMagicPigLayerUs) +
            checks_text(checks) + summary_text(checks));
  if (!results.empty()) {
    const auto measured = check_measured(results, json);
    checks.insert(checks.end(), measured.begin(), measured.end());
  }
  json.write({{"fitted",
               {{"share_of_peak", fitted.share_of_peak},
                {"layer_us", fitted.layer_us},
                {"rms_error", fitted.rms_error},
                {"worst_error", fitted.worst_error}}},
              {"checks", checks_json(checks)}});
  const Summary all = summary_of(checks);
  if (all.failed > 0)
    throw std::runtime_error(fmt::format("{} predictions are off by more than {:.0f} % and not listed as unexplained",
                                         all.failed, 100 * plan::kMostError));
}

}  // namespace

void add_plan_validate(CLI::App& plan, Action& action) {
  struct Options {
    PlanCommon common;
    std::string results;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = plan.add_subcommand("validate", "Predict what was published and measured, and show the errors");
  command->add_option("--results", options->results, "folder with results of decode_step, as bench/results");
  add_plan_common(*command, options->common);
  command->footer(
      "Exit code 1 when a point that is neither fitted nor listed as unexplained is off by more than 25 %.\n"
      "Example:\n  tandem plan validate --results bench/results");
  command->callback([options, &action] {
    action = [options] { with_usage_errors([&] { validate_plan(options->common, options->results); }); };
  });
}

}  // namespace tandem::cli
