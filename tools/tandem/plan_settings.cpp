#include "tools/tandem/plan_settings.h"

#include <fmt/format.h>

#include "runtime/base/dtype.h"
#include "tools/tandem/options.h"
#include "tools/tandem/table.h"
#include "tools/tandem/validators.h"

namespace tandem::cli {
namespace {

/// "96K" -> 98304; K and M are 1024 and 1024^2.
std::int64_t context_from(const std::string& text) {
  std::string digits = text;
  std::int64_t unit = 1;
  const char last = digits.empty() ? '\0' : digits.back();
  if (last == 'K' || last == 'k') unit = 1024;
  if (last == 'M' || last == 'm') unit = 1024 * 1024;
  if (unit > 1) digits.pop_back();
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  const auto tokens = parse_or<std::int64_t>(digits, 0);
  if (tokens < 1 || tokens > kMost / unit)
    throw UsageError(not_allowed("--context", text, "tokens, as in 4096, 96K or 1M, at least 1"));
  return tokens * unit;
}

int batch_from(const std::string& text) {
  if (text == "auto") return 0;
  const int batch = parse_or(text, 0);
  if (batch < 1 || batch > 65536) throw UsageError(not_allowed("--batch", text, "auto, or sequences from 1 to 65536"));
  return batch;
}

plan::WeightFormat weights_from(const std::string& name) {
  return name == "int8"   ? plan::WeightFormat::int8
         : name == "int4" ? plan::WeightFormat::int4
                          : plan::WeightFormat::bf16;
}

Json events_json(const plan::Schedule& schedule) {
  Json events = Json::array();
  for (const plan::Event& event : schedule.events)
    events.push_back({{"lane", to_string(event.lane)},
                      {"start_ms", 1e3 * event.start},
                      {"end_ms", 1e3 * event.end},
                      {"label", event.label},
                      {"layer", event.layer},
                      {"micro_batch", event.micro_batch}});
  return events;
}

Json memory_json(const plan::MemoryNeed& need) {
  return {{"device", need.device()},         {"weights", need.weights},      {"device_kv", need.device_kv},
          {"activations", need.activations}, {"reserve", need.reserve},      {"host", need.host()},
          {"host_rows", need.host_rows},     {"host_index", need.host_index}};
}

Json lanes_json(const plan::Schedule& schedule) {
  Json lanes = Json::object();
  for (const plan::Lane lane : plan::kLanes) {
    const auto i = static_cast<std::size_t>(lane);
    lanes[to_string(lane)] = {{"busy_ms", 1e3 * schedule.busy[i]}, {"critical_ms", 1e3 * schedule.critical[i]}};
  }
  return lanes;
}

}  // namespace

void add_model(CLI::App& app, std::string& model) {
  app.add_option("--model", model, "a name of 'tandem plan list', or a config.json of Hugging Face");
}

void add_plan_options(CLI::App& app, PlanOptions& o) {
  add_model(app, o.model);
  app.add_option("--context", o.contexts, "tokens of each sequence, as in 32K,96K,128K [32K]");
  app.add_option("--batch", o.batches, "sequences, as in 1,8; auto: as many as fit [auto]");
  app.add_option("--method", o.methods, "gpu, tandem, magicpig, host-dense, swap, a list of them, or all [all]");
  app.add_option("--window", o.window, "tokens that stay on the GPU [1028]")
      ->check(number_in<std::int64_t>(1, 1 << 24, "a whole number from 1 to 16777216"));
  app.add_option("--budget", o.budget, "share of the host rows that is gathered [0.02]")
      ->check(number_in(1e-9, 1.0, "above 0 and at most 1"));
  app.add_option("--dense-layers", o.dense_layers, "layers that the GPU holds wholly [0]")
      ->check(number_in(0, 10'000, "a whole number from 0 to the model's layers"));
  app.add_option("--sketch-bits", o.sketch_bits, "1 or 2: of a code, per dimension [2]")
      ->check(number_in(1, 2, "1 or 2"));
  app.add_option("--hand-off", o.hand_off, "flag or callback: how host and GPU wake each other [flag]")
      ->check(one_of({"flag", "callback"}));
  app.add_flag("--ping-pong", o.ping_pong, "two half batches take turns");
  app.add_option("--weights", o.weights, "bf16, int8 or int4 [bf16]")->check(one_of({"bf16", "int8", "int4"}));
  app.add_option("--host-dtype", o.host_dtype, "bf16, int8 or k8v4: rows of the host [bf16]")
      ->check(one_of({"bf16", "int8", "k8v4"}));
  app.add_option("--cpu", o.cpu, fmt::format("the processor beside a GPU that is named alone [{}]", plan::kDefaultCpu));
  app.add_option("--usd-per-hour", o.usd_per_hour, "price of the whole machine")
      ->check(number_in(0.0, 1e6, "USD from 0 to 1000000"));
  app.add_option("--html", o.html, "write the report as a page that opens without a network");
  add_plan_common(app, o.common);
}

plan::StepSettings PlanRequest::at(std::int64_t context, int batch) const {
  plan::StepSettings step = settings;
  step.context = context;
  step.batch = batch;
  return step;
}

PlanRequest request_of(const PlanOptions& o) {
  if (o.model.empty()) throw UsageError("--model is missing; 'tandem plan list' shows the models");
  PlanRequest request;
  request.catalog = catalog_of(o.common);
  request.model = request.catalog.model(o.model);
  request.settings = {.window = o.window,
                      .dense_layers = o.dense_layers,
                      .budget = o.budget,
                      .sketch_bits = o.sketch_bits,
                      .hand_off = o.hand_off == "flag" ? plan::HandOff::flag : plan::HandOff::callback,
                      .ping_pong = o.ping_pong,
                      .weights = weights_from(o.weights),
                      .host_dtype = parse_row_format("--host-dtype", o.host_dtype)};
  for (const std::string& text : split_list(o.contexts)) request.contexts.push_back(context_from(text));
  for (const std::string& text : split_list(o.batches)) request.batches.push_back(batch_from(text));
  request.any_method = o.methods == "all";
  if (request.any_method) request.methods.assign(std::begin(plan::kMethods), std::end(plan::kMethods));
  for (const std::string& text : request.any_method ? std::vector<std::string>() : split_list(o.methods))
    request.methods.push_back(plan::method_from(text, "--method"));
  if (o.usd_per_hour >= 0) request.usd_per_hour = o.usd_per_hour;
  for (const std::int64_t context : request.contexts)
    for (const int batch : request.batches) validate(request.at(context, batch == 0 ? 2 : batch), request.model);
  return request;
}

std::string range_text(const plan::Estimate& e) {
  return fmt::format("{} ({} to {})", short_number(e.value), short_number(e.low), short_number(e.high));
}

Json estimate_json(const plan::Estimate& e) { return {{"value", e.value}, {"low", e.low}, {"high", e.high}}; }

std::string context_text(std::int64_t tokens) {
  return tokens % 1024 == 0 ? fmt::format("{}K", tokens / 1024) : std::to_string(tokens);
}

Json prediction_json(const plan::Prediction& p, bool with_events) {
  Json object = {{"method", to_string(p.settings.method)},
                 {"context", p.settings.context},
                 {"batch", p.settings.batch},
                 {"max_batch", p.max_batch},
                 {"tokens_per_s", estimate_json(p.tokens_per_s)},
                 {"step_ms", estimate_json(p.step_ms)},
                 {"kind", to_string(p.kind)},
                 {"bottleneck", to_string(p.schedule.bottleneck())},
                 {"memory_bytes", memory_json(p.memory)},
                 {"lanes", lanes_json(p.schedule)}};
  if (p.joules_per_token) object["joules_per_token"] = estimate_json(*p.joules_per_token);
  if (p.usd_per_million_tokens) object["usd_per_million_tokens"] = estimate_json(*p.usd_per_million_tokens);
  if (with_events) object["events"] = events_json(p.schedule);
  return object;
}

}  // namespace tandem::cli
