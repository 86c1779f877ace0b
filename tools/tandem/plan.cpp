// tandem plan: what a machine would do, predicted, with a range on every figure.
#include <algorithm>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "runtime/base/error.h"
#include "tools/plan/rates.h"
#include "tools/tandem/plan_page.h"
#include "tools/tandem/plan_settings.h"
#include "tools/tandem/table.h"

namespace tandem::cli {
namespace {

struct Predicted {
  std::vector<plan::Prediction> predictions;
  std::vector<std::string> misfits;  ///< why the others do not fit
};

/// Every context, batch and method that was asked for.
Predicted predict_all(const PlanRequest& request, const plan::System& system) {
  Predicted all;
  for (const std::int64_t context : request.contexts)
    for (const int batch : request.batches) {
      const plan::StepSettings settings = request.at(context, batch);
      auto fitting = predict_methods(system, request.model, settings, request.methods, request.usd_per_hour);
      std::move(fitting.begin(), fitting.end(), std::back_inserter(all.predictions));
      for (const plan::Method method : request.methods) {
        if (!system.gpu && plan::needs_gpu(method)) continue;
        plan::StepSettings one = settings;
        one.method = method;
        one.batch = std::max(1, batch);
        std::string why = why_it_does_not_fit(request.catalog, system, request.model, one);
        const bool told = std::find(all.misfits.begin(), all.misfits.end(), why) != all.misfits.end();
        if (!why.empty() && !told) all.misfits.push_back(std::move(why));
      }
    }
  return all;
}

void check_methods(const PlanRequest& request, const plan::System& system) {
  for (const plan::Method method : request.methods)
    if (!request.any_method && !system.gpu && plan::needs_gpu(method))
      throw UsageError(fmt::format("--method: '{}' needs a GPU, and {} has none; allowed: tandem, host-dense",
                                   to_string(method), system.name));
}

std::string table_text(const std::vector<plan::Prediction>& predictions) {
  Table table({"context", "batch", "method", "tokens/s", "ms a step", "fits", "device GB", "host GB", "bound by",
               "J a token", "USD / 1e6 tokens", "known"});
  const auto optional_text = [](const std::optional<plan::Estimate>& e) {
    return e ? range_text(*e) : std::string("-");
  };
  for (const plan::Prediction& p : predictions)
    table.add_row({context_text(p.settings.context), std::to_string(p.settings.batch), to_string(p.settings.method),
                   range_text(p.tokens_per_s), range_text(p.step_ms), std::to_string(p.max_batch),
                   fmt::format("{:.1f}", p.memory.device() / 1e9), fmt::format("{:.1f}", p.memory.host() / 1e9),
                   to_string(p.schedule.bottleneck()), optional_text(p.joules_per_token),
                   optional_text(p.usd_per_million_tokens), to_string(p.kind)});
  return table.text();
}

/// The figures that the predictions rest on, once each.
std::vector<PlanFigure> figures_of(const PlanRequest& request, const plan::System& system, const Predicted& all) {
  const plan::RateFigures rates = rate_figures(system, request.settings);
  std::vector<PlanFigure> figures;
  for (const plan::Prediction& prediction : all.predictions) {
    for (const plan::UsedFigure& used : used_figures(rates, system, prediction.settings.method)) {
      const auto same = [&used](const PlanFigure& known) { return known.name == used.name; };
      if (std::none_of(figures.begin(), figures.end(), same)) figures.push_back({used.name, used.unit, *used.figure});
    }
  }
  return figures;
}

std::string figures_text(const PlanRequest& request, const plan::System& system, const Predicted& all) {
  std::string text = "\nRests on\n";
  for (const auto& [name, unit, figure] : figures_of(request, system, all)) {
    const plan::Estimate range{figure.value, figure.low, figure.high};
    text += fmt::format("  {:<28} {:<30} {:<9}  {}\n", name, range_text(range) + " " + unit, to_string(figure.kind),
                        figure.source);
  }
  return text;
}

std::string notes_text(const plan::System& system, const Predicted& all) {
  std::string text =
      "\nNothing here was measured with this model. A range has all figures at their bounds together, and is widened "
      "by "
      "what predictions\nwere off where they could be checked ('tandem plan validate'); the method tandem beside a GPU "
      "could not be checked yet.\n";
  if (system.gpu && !system.cpu_was_named)
    text += fmt::format("The processor is taken to be {}; see --cpu.\n", system.cpu.name);
  for (const std::string& why : all.misfits) text += "Does not fit: " + why + "\n";
  return text;
}

PlanReport report_of(const PlanRequest& request, const plan::System& system, const Predicted& all) {
  return {request.model.title, system.name, all.predictions, all.misfits, figures_of(request, system, all)};
}

void predict(const std::string& machine, const PlanOptions& options) {
  if (machine.empty()) throw UsageError("MACHINE is missing; 'tandem plan list' shows GPUs and processors");
  JsonOutput json(options.common.json);
  JsonOutput html(options.html, "--html");
  refuse_mixed({&json, &html});
  const PlanRequest request = request_of(options);
  const plan::System system = system_from(request.catalog, machine, options.cpu);
  check_methods(request, system);
  const Predicted all = predict_all(request, system);
  if (all.predictions.empty()) fail(ErrorCode::out_of_memory, all.misfits.front());
  if (!html.is_stdout())
    print(json, fmt::format("{} on {}\n\n", request.model.title, system.name) + table_text(all.predictions) +
                    figures_text(request, system, all) + notes_text(system, all));
  if (!options.html.empty()) html.write_text(html_of(report_of(request, system, all)));
  Json rows = Json::array();
  for (const plan::Prediction& p : all.predictions) rows.push_back(prediction_json(p, true));
  json.write({{"machine", system.name},
              {"cpu", system.cpu.name},
              {"model", request.model.name},
              {"predictions", rows},
              {"does_not_fit", all.misfits}});
}

}  // namespace

void add_plan_common(CLI::App& app, PlanCommon& options) {
  app.add_option(
      "--data", options.data,
      "folder whose machines/, models/ and published/ add to the built-in ones, or replace them by file name");
  app.add_option("--json", options.json, "write the results as JSON to this file; - is standard output");
}

plan::Catalog catalog_of(const PlanCommon& options) {
  plan::Catalog catalog = plan::Catalog::built_in();
  if (!options.data.empty()) catalog.add_folder(options.data);
  return catalog;
}

void with_usage_errors(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::invalid_argument || error.code() == ErrorCode::unsupported)
      throw UsageError(error.what());
    throw;
  }
}

void add_plan(CLI::App& app, Action& action) {
  struct Options {
    PlanOptions plan;
    std::string machine;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* plan = app.add_subcommand("plan", "Predict what a machine would do, with a range on every figure");
  plan->require_subcommand(0, 1);
  plan->add_option("MACHINE", options->machine,
                   "GPU, CPU or GPU+CPU by name or file, as in v100-32+xeon-8280 or 2xrtx-4090");
  add_plan_options(*plan, options->plan);
  plan->footer(
      "Example:\n  tandem plan v100-32 --model llama-3.1-8b --context 32K,96K,128K --batch auto\n"
      "  tandem plan compare v100-32 a100-40 --model llama-3.1-8b --context 128K");
  plan->callback([options, plan, &action] {
    if (!plan->get_subcommands().empty()) return;
    action = [options] { with_usage_errors([&] { predict(options->machine, options->plan); }); };
  });
  add_plan_list(*plan, action);
  add_plan_compare(*plan, action);
  add_plan_validate(*plan, action);
}

}  // namespace tandem::cli
