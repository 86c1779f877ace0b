#include "gpu/device_choice.h"
#include "runtime/codec_json.h"
#include "runtime/config.h"
#include "runtime/json_fields.h"
#include "runtime/policy_json.h"
#include "runtime/selector_json.h"
#include "runtime/selector_params.h"
#include "runtime/window_settings.h"

namespace tandem {
namespace {

using nlohmann::json;

lsh::SelectorParams selector_from(const json& object) {
  td_selector selector{};
  read_selector(object, selector);
  const bool has_budget = object.contains("budget") && !object.at("budget").is_null();
  // where tandem.h has no default
  if (selector.kind == TD_SELECT_TOP_K && !has_budget) selector.budget = lsh::TopKParams{}.budget;
  return params_of(selector);
}

/// The part of a file of `tandem profile --out` that counts here; tools/plan/machine.h has all of it.
const json& costs_of_machine(const json& machine) {
  Fields fields(machine, "profile");
  std::string schema;
  int version = 0;
  fields.read("schema", schema);
  fields.read("version", version);
  TANDEM_CHECK(schema == "tandem-machine", invalid_argument, "profile.schema is '", schema,
               "'; allowed: tandem-machine");
  TANDEM_CHECK(version == 1, invalid_argument, "profile.version is ", version, "; allowed: 1");
  const json* const costs = fields.find("step_costs");
  TANDEM_CHECK(costs != nullptr, invalid_argument,
               "profile.step_costs is missing: the machine was measured without (tandem profile --no-costs)");
  return *costs;
}

/// Of an object with costs, or of a machine that has one as its step_costs.
lsh::CostProfile profile_from(const json& object) {
  const bool is_machine = object.is_object() && object.contains("schema");
  Fields fields(is_machine ? costs_of_machine(object) : object, is_machine ? "profile.step_costs" : "profile");
  lsh::CostProfile profile;
  for (const lsh::CostField& field : lsh::kCostFields) fields.read(field.name, profile.*field.value);
  fields.reject_others();
  lsh::validate(profile);
  return profile;
}

json to_json(const lsh::CostProfile& profile) {
  json object = json::object();
  for (const lsh::CostField& field : lsh::kCostFields) object[field.name] = profile.*field.value;
  return object;
}

}  // namespace

lsh::CostProfile profile_from_json(const std::string& text) {
  const json object = json::parse(text, nullptr, false);
  TANDEM_CHECK(!object.is_discarded(), invalid_argument, "profile is not JSON: ", text.substr(0, 60));
  return profile_from(object);
}

Config config_from_json(const std::string& text) {
  const json object = json::parse(text, nullptr, false);
  TANDEM_CHECK(!object.is_discarded(), invalid_argument, "config is not JSON: ", text.substr(0, 60));
  Fields fields(object, "config");
  Config config;
  fields.read("num_layers", config.shape.num_layers);
  fields.read("num_q_heads", config.shape.num_q_heads);
  fields.read("num_kv_heads", config.shape.num_kv_heads);
  fields.read("head_dim_k", config.shape.head_dim_k);
  fields.read("head_dim_v", config.shape.head_dim_v);
  fields.read("scale", config.shape.scale);
  fields.read("softcap", config.shape.softcap);
  fields.read("sink_tokens", config.window.sink_tokens);
  fields.read("local_tokens", config.window.local_tokens);
  fields.read("window_dtype", config.window.dtype);
  if (const json* codec = fields.find("window_codec")) {
    const OwnedCodec given = read_codec(*codec);
    config.window.codec = codec_of(given.get());
    config.calibration_file = given.calibration;
  }
  if (const json* policy = fields.find("window_policy")) set_policy(read_policy(*policy), config.window);
  fields.read_unless_zero("residual_tokens", config.window.residual_tokens);
  fields.read("rope_theta", config.rope.theta);
  fields.read("rope_dims", config.rope.dims);
  fields.read("rope_interleaved", config.rope.interleaved);
  fields.read("host_tier", config.host_tier);
  fields.read_row_format("host_dtype", config.host_dtype);
  fields.read("num_threads", config.num_workers);
  fields.read_unless_zero("max_tokens", config.max_tokens);
  fields.read("host_memory_bytes", config.host_memory_bytes);
  fields.read("device", config.device);
  if (fields.find("hand_off") != nullptr) {
    std::string hand_off;
    fields.read("hand_off", hand_off);
    config.hand_off = gpu::parse_hand_off(hand_off);
  }
  fields.read_unless_zero("device_timeout_ms", config.device_timeout_ms);
  fields.read("graphs", config.graphs);
  fields.read("topology", config.topology);
  if (fields.find("isa") != nullptr) fields.read("isa", config.isa.emplace());
  if (const json* selector = fields.find("selector")) config.selector = selector_from(*selector);
  if (const json* profile = fields.find("profile")) config.profile = profile_from(*profile);
  fields.read("never_slower", config.never_slower);
  fields.read("auto_split", config.auto_split);
  fields.reject_others();
  config.shape = resolved(config.shape);
  return config;
}

std::string config_to_json(const Config& config) {
  const OwnedCodec codec{to_td_codec(config.window.codec), config.calibration_file};
  json object = {{"num_layers", config.shape.num_layers},
                 {"num_q_heads", config.shape.num_q_heads},
                 {"num_kv_heads", config.shape.num_kv_heads},
                 {"head_dim_k", config.shape.head_dim_k},
                 {"head_dim_v", config.shape.head_dim_v},
                 {"scale", config.shape.scale},
                 {"softcap", config.shape.softcap},
                 {"sink_tokens", config.window.sink_tokens},
                 {"local_tokens", config.window.local_tokens},
                 {"window_dtype", to_string(config.window.dtype)},
                 {"window_codec", codec_to_json<json>(codec.get())},
                 {"window_policy", policy_to_json<json>(to_td_window_policy(config.window))},
                 {"residual_tokens", config.window.residual_tokens},
                 {"rope_theta", config.rope.theta},
                 {"rope_dims", config.rope.dims},
                 {"rope_interleaved", config.rope.interleaved},
                 {"host_tier", config.host_tier},
                 {"host_dtype", to_string(config.host_dtype)},
                 {"num_threads", config.num_workers},
                 {"max_tokens", config.max_tokens},
                 {"host_memory_bytes", config.host_memory_bytes},
                 {"device", config.device},
                 {"hand_off", gpu::to_string(config.hand_off)},
                 {"device_timeout_ms", config.device_timeout_ms},
                 {"graphs", config.graphs},
                 {"topology", config.topology},
                 {"selector", selector_to_json<json>(to_td_selector(config.selector))},
                 {"profile", to_json(config.profile)},
                 {"never_slower", config.never_slower},
                 {"auto_split", config.auto_split}};
  if (config.isa) object["isa"] = *config.isa;
  return object.dump();
}

}  // namespace tandem
