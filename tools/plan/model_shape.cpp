#include "tools/plan/model_shape.h"

#include <algorithm>
#include <array>

#include "tools/plan/json_file.h"
#include "tools/plan/object_fields.h"

namespace tandem::plan {
namespace {

constexpr const char* kSchema = "tandem-model";
constexpr std::array kModelTypes = {"llama", "mistral", "qwen2", "qwen3"};
constexpr std::int64_t kMost = 1 << 22;  // of any size of a layer: no count of parameters overflows
constexpr std::int64_t kMostContext = std::int64_t{1} << 31;

/// Experts: which weights a step reads depends on the tokens, and nothing here knows how.
constexpr std::array kExpertFields = {"num_local_experts", "num_experts", "n_routed_experts"};

std::string model_type_of(ObjectFields& fields, const Json& config) {
  std::string type = fields.text("model_type");
  const bool known = std::find(kModelTypes.begin(), kModelTypes.end(), type) != kModelTypes.end();
  TANDEM_CHECK(known, unsupported, fields.path(), ".model_type is '", type, "'; allowed: llama, mistral, qwen2, qwen3");
  for (const char* name : kExpertFields)
    TANDEM_CHECK(!config.contains(name), unsupported, fields.path(), ".", name,
                 " is a field of a model with experts; only models without are predicted");
  return type;
}

bool flag(ObjectFields& fields, const std::string& name, bool fallback) {
  const Json* const field = fields.find(name);
  if (field == nullptr) return fallback;
  TANDEM_CHECK(field->is_boolean(), invalid_argument, fields.path(), ".", name, " is ", field->dump(),
               "; it must be true or false");
  return field->get<bool>();
}

void read_heads(ObjectFields& fields, ModelShape& shape) {
  shape.num_q_heads = static_cast<int>(fields.integer("num_attention_heads", 1, kMost));
  shape.num_kv_heads = static_cast<int>(fields.integer("num_key_value_heads", 1, kMost, shape.num_q_heads));
  TANDEM_CHECK(shape.num_q_heads % shape.num_kv_heads == 0, invalid_argument, fields.path(), ".num_key_value_heads is ",
               shape.num_kv_heads, "; it must divide num_attention_heads, which is ", shape.num_q_heads);
  TANDEM_CHECK(fields.find("head_dim") != nullptr || shape.hidden_size % shape.num_q_heads == 0, invalid_argument,
               fields.path(), ".num_attention_heads is ", shape.num_q_heads, "; it must divide hidden_size, which is ",
               shape.hidden_size, ", where there is no head_dim");
  shape.head_dim = static_cast<int>(fields.integer("head_dim", 1, kMost, shape.hidden_size / shape.num_q_heads));
  const std::int64_t width = std::int64_t{shape.num_q_heads} * shape.head_dim;
  TANDEM_CHECK(width <= kMost, invalid_argument, fields.path(), ".head_dim is ", shape.head_dim, "; allowed: at most ",
               kMost / shape.num_q_heads, " with ", shape.num_q_heads, " heads");
}

Json object_of(const std::filesystem::path& path) {
  Json object = json_file(path);
  TANDEM_CHECK(object.is_object(), invalid_argument, path.string(), " is ", object.type_name(),
               "; it must be an object");
  return object;
}

}  // namespace

std::int64_t ModelShape::parameters_before_attention() const noexcept {
  const std::int64_t outputs = std::int64_t{num_q_heads + 2 * num_kv_heads} * head_dim;
  const std::int64_t norms = hidden_size + (head_norms ? 2 * std::int64_t{head_dim} : 0);
  return outputs * hidden_size + (attention_bias ? outputs : 0) + norms;
}

std::int64_t ModelShape::parameters_behind_attention() const noexcept {
  const std::int64_t hidden = hidden_size;
  return hidden * num_q_heads * head_dim + 3 * hidden * intermediate_size + hidden;
}

std::int64_t ModelShape::parameters() const noexcept {
  return embedding_parameters() * (tied_embeddings ? 1 : 2) + hidden_size +
         num_layers * (parameters_before_attention() + parameters_behind_attention());
}

std::int64_t ModelShape::visible(std::int64_t context) const noexcept {
  return sliding_window > 0 ? std::min(context, sliding_window) : context;
}

ModelShape shape_from_config(const Json& config, const std::string& origin) {
  ObjectFields fields(config, origin);
  const std::string type = model_type_of(fields, config);
  ModelShape shape;
  shape.hidden_size = static_cast<int>(fields.integer("hidden_size", 1, kMost));
  shape.intermediate_size = static_cast<int>(fields.integer("intermediate_size", 1, kMost));
  shape.num_layers = static_cast<int>(fields.integer("num_hidden_layers", 1, 10'000));
  shape.vocabulary = static_cast<int>(fields.integer("vocab_size", 1, kMost));
  shape.max_context = fields.integer("max_position_embeddings", 1, kMostContext);
  read_heads(fields, shape);
  shape.tied_embeddings = flag(fields, "tie_word_embeddings", false);
  // Qwen2 has biases without a field that says so, and a sliding window that counts only where another field says so.
  shape.attention_bias = flag(fields, "attention_bias", type == "qwen2");
  shape.head_norms = type == "qwen3";
  const bool slides = flag(fields, "use_sliding_window", type == "mistral");
  if (slides) shape.sliding_window = fields.integer("sliding_window", 1, kMostContext, 0);
  return shape;
}

ModelShape shape_from(const Json& object, const std::string& origin) {
  ObjectFields fields(object, origin);
  check_schema(fields, kSchema, 1);
  ModelShape shape = shape_from_config(fields.at("config"), origin + ".config");
  shape.name = fields.text("name");
  shape.title = fields.text("title", shape.name);
  shape.source = fields.text("source", "");
  const std::int64_t parameters = fields.integer("parameters", 1, std::int64_t{1} << 50, shape.parameters());
  TANDEM_CHECK(parameters == shape.parameters(), invalid_argument, origin, ".parameters is ", parameters,
               "; the fields of config make ", shape.parameters());
  fields.reject_others();
  return shape;
}

ModelShape load_shape(const std::filesystem::path& path) {
  const Json object = object_of(path);
  if (object.contains("schema")) return shape_from(object, path.string());
  ModelShape shape = shape_from_config(object, path.string());
  shape.name = shape.title = path.has_parent_path() ? path.parent_path().filename().string() : path.stem().string();
  if (shape.name.empty() || shape.name == ".") shape.name = shape.title = path.stem().string();
  shape.source = path.string();
  return shape;
}

const char* to_string(WeightFormat format) noexcept {
  return format == WeightFormat::bf16 ? "bf16" : format == WeightFormat::int8 ? "int8" : "int4";
}

double bytes_of(WeightFormat format) noexcept {
  constexpr double kScale = 2.0 / 128;  // one in 16 bits for every 128 weights
  return format == WeightFormat::bf16 ? 2.0 : (format == WeightFormat::int8 ? 1.0 : 0.5) + kScale;
}

}  // namespace tandem::plan
