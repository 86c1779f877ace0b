#include "tools/tandem/split_model.h"

#include <initializer_list>

#include <fmt/format.h>

#include "tools/plan/step_settings.h"
#include "tools/tandem/options.h"
#include "tools/tandem/plan_settings.h"
#include "tools/tandem/split_trace.h"
#include "tools/tandem/validators.h"

namespace tandem::cli {
namespace {

/// Throws UsageError for the first of `options` that was given beside one that says the same.
void refuse_beside(const CLI::App& command, std::initializer_list<const char*> options, const std::string& beside) {
  for (const char* name : options) {
    const CLI::Option* const option = command.get_option(name);
    if (option->count() > 0)
      throw UsageError(not_allowed(name, option->results().front(), "to leave it out beside " + beside));
  }
}

/// The prompt's tokens: decode queries belong behind all of it.
std::vector<std::int64_t> contexts_of(const tools::TraceMeta& meta, const std::vector<std::int64_t>& asked) {
  for (const std::int64_t tokens : asked)
    if (tokens != meta.tokens)
      throw UsageError(not_allowed("--context", std::to_string(tokens),
                                   fmt::format("{} beside --trace, the tokens of its prompt, all of which its decode "
                                               "queries come after",
                                               meta.tokens)));
  return {meta.tokens};
}

/// The attention of a model that plan knows, which takes all of `contexts`.
SplitShape shape_of(const plan::ModelShape& model, const std::vector<std::int64_t>& contexts) {
  for (const std::int64_t tokens : contexts) {
    validate_context(tokens, model);
    if (model.visible(tokens) < tokens)
      throw UsageError(not_allowed("--context", std::to_string(tokens),
                                   fmt::format("at most the {} tokens that a layer of {} sees: its window slides",
                                               model.sliding_window, model.name)));
  }
  return {model.num_layers, model.num_q_heads, model.num_kv_heads, model.head_dim};
}

}  // namespace

void add_split_model(CLI::App& command, SplitModelOptions& options) {
  const auto count = [](int most) { return number_in(1, most, fmt::format("a whole number from 1 to {}", most)); };
  add_model(command, options.model);
  command
      .add_option("--layers", options.shape.num_layers,
                  "without --model: layers that attend [32; with --trace: as many as it has]")
      ->check(count(1000));
  command.add_option("--q-heads", options.shape.num_q_heads, "without --model: query heads [32]")->check(count(1024));
  command.add_option("--kv-heads", options.shape.num_kv_heads, "without --model: KV heads [8]")->check(count(1024));
  command.add_option("--head-dim", options.shape.head_dim, "without --model: dimensions of a head [128]")
      ->check(count(512));
  command.add_option("--context", options.contexts, "prompt lengths in tokens, K and M are 2^10 and 2^20 [32K]");
  command.add_option("--trace", options.trace,
                     "folder of a recorded trace: measure over one layer of it in place of made-up heads");
  command.add_option("--layer", options.layer, "with --trace: which layer [the middle one of those that it has]")
      ->check(number_in(0, 1 << 16, "a whole number from 0 to 65536"))
      ->needs("--trace");
}

SplitModel split_model_of(const CLI::App& command, const SplitModelOptions& options) {
  SplitModel model{options.model, options.shape, {}, {}};
  for (const auto& text : split_list(options.contexts)) model.contexts.push_back(parse_tokens("--context", text));
  if (!options.trace.empty()) {
    model.trace = trace_to_split(options.trace, options.layer);
    const auto& meta = model.trace->meta;
    model.contexts = contexts_of(meta, command.count("--context") > 0 ? model.contexts : std::vector<std::int64_t>());
    refuse_beside(command, {"--q-heads", "--kv-heads", "--head-dim"}, "--trace " + options.trace);
    const bool given = command.count("--layers") > 0;
    const auto recorded = static_cast<std::int32_t>(meta.layers.size());
    model.shape = shape_of(meta, given ? options.shape.num_layers : recorded);
    if (given)
      check_same_heads(options.trace, *model.trace, model.shape,
                       fmt::format("a model of --layers {}", model.shape.num_layers));
  }
  if (options.model.empty()) return model;
  refuse_beside(command, {"--layers", "--q-heads", "--kv-heads", "--head-dim"}, "--model " + options.model);
  with_usage_errors([&] {
    const plan::ModelShape known = catalog_of({}).model(options.model);
    model.name = known.name;
    const SplitShape shape = shape_of(known, model.contexts);
    if (model.trace) check_same_heads(options.trace, *model.trace, shape, known.name);
    const float scale = model.shape.scale;  // a trace's own
    model.shape = shape;
    model.shape.scale = scale;
  });
  return model;
}

}  // namespace tandem::cli
