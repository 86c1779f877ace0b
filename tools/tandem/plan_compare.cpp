// tandem plan compare: machine against machine, each with the method that suits it.
#include <algorithm>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "runtime/base/error.h"
#include "tools/plan/comparison.h"
#include "tools/tandem/plan_page.h"
#include "tools/tandem/plan_settings.h"
#include "tools/tandem/table.h"

namespace tandem::cli {
namespace {

/// A machine, and the methods that it may use.
struct Entrant {
  plan::System system;
  std::vector<plan::Method> methods;
  std::string name_suffix = {};  ///< that says which method was named for it
};

/// "a100-40:gpu" names the method of one machine; others take those of --method.
Entrant entrant_from(const PlanRequest& request, const std::string& text, const std::string& default_cpu) {
  const auto colon = text.rfind(':');
  Entrant entrant{{}, request.methods};
  entrant.system = system_from(request.catalog, text.substr(0, colon), default_cpu);
  if (colon == std::string::npos) return entrant;
  const plan::Method method = plan::method_from(text.substr(colon + 1), "method of " + text);
  if (!entrant.system.gpu && plan::needs_gpu(method))
    throw UsageError(fmt::format("{}: '{}' needs a GPU, and {} has none; allowed: tandem, host-dense", text,
                                 to_string(method), entrant.system.name));
  entrant.methods = {method};
  entrant.name_suffix = fmt::format(" ({})", to_string(method));
  return entrant;
}

/// Machines that are there once need no method in their names.
void tell_apart(std::vector<Entrant>& entrants) {
  for (Entrant& entrant : entrants) {
    const auto same = [&entrant](const Entrant& other) { return other.system.name == entrant.system.name; };
    if (std::count_if(entrants.begin(), entrants.end(), same) == 1) entrant.name_suffix.clear();
  }
}

std::vector<PlanRound> rounds_of(const PlanRequest& request, const std::vector<Entrant>& entrants) {
  std::vector<PlanRound> rounds;
  for (const std::int64_t context : request.contexts)
    for (const int batch : request.batches) {
      PlanRound round{context, batch, {}};
      for (const Entrant& entrant : entrants)
        round.contenders.push_back({entrant.system.name + entrant.name_suffix,
                                    predict_methods(entrant.system, request.model, request.at(context, batch),
                                                    entrant.methods, request.usd_per_hour)});
      rounds.push_back(std::move(round));
    }
  return rounds;
}

std::string ratio_text(const plan::Contender& first, const plan::Contender& other) {
  return first.methods.empty() || other.methods.empty() ? "-" : range_text(ratio(first, other));
}

void add_rows(const PlanRound& round, Table& table) {
  const plan::Contender& first = round.contenders.front();
  for (const plan::Contender& contender : round.contenders) {
    if (contender.methods.empty()) {
      table.add_row({context_text(round.context), contender.machine, "nothing fits"});
      continue;
    }
    for (std::size_t i = 0; i < contender.methods.size(); ++i) {
      const plan::Prediction& p = contender.methods[i];
      const bool best = i == 0;
      table.add_row({best ? context_text(round.context) : "", best ? contender.machine : "",
                     to_string(p.settings.method), std::to_string(p.settings.batch), range_text(p.tokens_per_s),
                     range_text(p.step_ms), to_string(p.schedule.bottleneck()),
                     best && &contender != &first ? ratio_text(first, contender) : ""});
    }
  }
}

Json round_json(const PlanRound& round) {
  Json machines = Json::array();
  const plan::Contender& first = round.contenders.front();
  for (const plan::Contender& contender : round.contenders) {
    Json methods = Json::array();
    for (const plan::Prediction& p : contender.methods) methods.push_back(prediction_json(p, false));
    Json machine = {{"machine", contender.machine}, {"methods", methods}};
    if (&contender != &first) {
      machine["verdict"] = verdict(first, contender);
      if (!first.methods.empty() && !contender.methods.empty())
        machine["first_over_this"] = estimate_json(ratio(first, contender));
    }
    machines.push_back(std::move(machine));
  }
  return {{"context", round.context},
          {"batch", round.batch == 0 ? Json("auto") : Json(round.batch)},
          {"machines", machines}};
}

std::string verdicts_text(const std::vector<PlanRound>& rounds) {
  std::string text = "\n";
  for (const PlanRound& round : rounds)
    for (std::size_t i = 1; i < round.contenders.size(); ++i)
      text +=
          fmt::format("{}: {}\n", context_text(round.context), verdict(round.contenders.front(), round.contenders[i]));
  return text;
}

void compare(const std::vector<std::string>& machines, const PlanOptions& options) {
  if (machines.size() < 2) throw UsageError("compare takes at least two machines, as in v100-32 a100-40");
  JsonOutput json(options.common.json);
  JsonOutput html(options.html, "--html");
  refuse_mixed({&json, &html});
  const PlanRequest request = request_of(options);
  std::vector<Entrant> entrants;
  std::string default_cpu;
  for (const std::string& machine : machines) {
    entrants.push_back(entrant_from(request, machine, options.cpu));
    if (!entrants.back().system.cpu_was_named) default_cpu = entrants.back().system.cpu.name;
  }
  tell_apart(entrants);
  const std::vector<PlanRound> rounds = rounds_of(request, entrants);
  Table table({"context", "machine", "method", "batch", "tokens/s", "ms a step", "bound by", "first over this"});
  for (const PlanRound& round : rounds) add_rows(round, table);
  const std::string note =
      default_cpu.empty() ? "" : fmt::format("GPUs named alone stand beside {}; see --cpu.\n", default_cpu);
  if (!html.is_stdout()) print(json, request.model.title + "\n\n" + table.text() + verdicts_text(rounds) + note);
  if (!options.html.empty()) html.write_text(html_of(request.model.title, rounds, note));
  Json rows = Json::array();
  for (const PlanRound& round : rounds) rows.push_back(round_json(round));
  json.write({{"model", request.model.name}, {"default_cpu", default_cpu}, {"rounds", rows}});
}

}  // namespace

void add_plan_compare(CLI::App& plan, Action& action) {
  struct Options {
    PlanOptions plan;
    std::vector<std::string> machines;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = plan.add_subcommand("compare", "Machine against machine, each with the methods that fit");
  command->add_option("MACHINES", options->machines,
                      "two or more, as in v100-32 a100-40+epyc-7742; v100-32:tandem names the method of one");
  add_plan_options(*command, options->plan);
  command->footer(
      "The first machine is set against each of the others, by the fastest method of each, or the one that is named.\n"
      "Example:\n  tandem plan compare v100-32 a100-40 --model llama-3.1-8b --context 32K,96K,128K --batch auto");
  command->callback([options, &action] {
    action = [options] { with_usage_errors([&] { compare(options->machines, options->plan); }); };
  });
}

}  // namespace tandem::cli
