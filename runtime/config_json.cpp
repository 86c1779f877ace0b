#include <algorithm>
#include <iterator>

#include "runtime/config.h"
#include "runtime/json_fields.h"

namespace tandem {
namespace {

using nlohmann::json;

constexpr const char* kPlanes[] = {"hadamard", "gaussian"};  // by cpu::HashPlanes

void read_planes(Fields& fields, cpu::HashPlanes& planes) {
  std::string name = kPlanes[static_cast<int>(planes)];
  fields.read("lsh_planes", name);
  const auto* found = std::find(std::begin(kPlanes), std::end(kPlanes), name);
  TANDEM_CHECK(found != std::end(kPlanes), invalid_argument, "selector.lsh_planes is '", name,
               "'; allowed: hadamard, gaussian");
  planes = static_cast<cpu::HashPlanes>(found - kPlanes);
}

lsh::SelectorParams selector_from(const json& object) {
  Fields fields(object, "selector");
  std::string kind = "all";
  lsh::TopKParams top_k;
  lsh::LshParams lsh;
  fields.read("kind", kind);
  lsh::SelectorParams params;
  if (kind == "topk") {
    fields.read("budget", top_k.budget);
    params = top_k;
  } else if (kind == "lsh") {
    fields.read_unless_zero("lsh_bits", lsh.bits_per_table);
    fields.read_unless_zero("lsh_tables", lsh.num_tables);
    fields.read_unless_zero("lsh_min_collisions", lsh.min_collisions);
    read_planes(fields, lsh.planes);
    fields.read_unless_zero("seed", lsh.seed);
    params = lsh;
  } else if (kind == "sketch" || kind == "sketch_topk") {
    lsh::SketchParams sketch;
    sketch.top_k = kind == "sketch_topk";
    fields.read_unless_zero("budget", sketch.budget);
    fields.read("sketch_bits", sketch.bits_per_dim);
    if (!sketch.top_k) {
      fields.read("error", sketch.error);
      fields.read("unbiased", sketch.unbiased);
      fields.read_unless_zero("seed", sketch.seed);
    }
    params = sketch;
  } else {
    TANDEM_CHECK(kind == "all", invalid_argument, "selector.kind is '", kind,
                 "'; allowed: all, topk, lsh, sketch, sketch_topk");
    params = lsh::SelectAllParams{};
  }
  fields.reject_others();
  return params;
}

lsh::CostProfile profile_from(const json& object) {
  Fields fields(object, "profile");
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

struct SelectorJson {
  json operator()(const lsh::SketchParams& p) const {
    if (p.top_k) return {{"kind", "sketch_topk"}, {"budget", p.budget}, {"sketch_bits", p.bits_per_dim}};
    return {{"kind", "sketch"},       {"budget", p.budget}, {"error", p.error}, {"sketch_bits", p.bits_per_dim},
            {"unbiased", p.unbiased}, {"seed", p.seed}};
  }
  json operator()(const lsh::SelectAllParams&) const { return {{"kind", "all"}}; }
  json operator()(const lsh::TopKParams& p) const { return {{"kind", "topk"}, {"budget", p.budget}}; }
  json operator()(const lsh::LshParams& p) const {
    return {{"kind", "lsh"},
            {"lsh_bits", p.bits_per_table},
            {"lsh_tables", p.num_tables},
            {"lsh_min_collisions", p.min_collisions},
            {"lsh_planes", kPlanes[static_cast<int>(p.planes)]},
            {"seed", p.seed}};
  }
};

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
  fields.read_row_format("host_dtype", config.host_dtype);
  fields.read("num_threads", config.num_workers);
  fields.read_unless_zero("max_tokens", config.max_tokens);
  fields.read("host_memory_bytes", config.host_memory_bytes);
  fields.read("topology", config.topology);
  if (fields.find("isa") != nullptr) fields.read("isa", config.isa.emplace());
  if (const json* selector = fields.find("selector")) config.selector = selector_from(*selector);
  if (const json* profile = fields.find("profile")) config.profile = profile_from(*profile);
  fields.read("never_slower", config.never_slower);
  fields.reject_others();
  config.shape = resolved(config.shape);
  return config;
}

std::string config_to_json(const Config& config) {
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
                 {"host_dtype", to_string(config.host_dtype)},
                 {"num_threads", config.num_workers},
                 {"max_tokens", config.max_tokens},
                 {"host_memory_bytes", config.host_memory_bytes},
                 {"topology", config.topology},
                 {"selector", std::visit(SelectorJson{}, config.selector)},
                 {"profile", to_json(config.profile)},
                 {"never_slower", config.never_slower}};
  if (config.isa) object["isa"] = *config.isa;
  return object.dump();
}

}  // namespace tandem
