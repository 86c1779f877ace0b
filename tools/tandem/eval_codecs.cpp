// tandem eval codecs: what the codecs of the window make of the keys and values of a trace, layer by layer.
#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "runtime/base/error.h"
#include "tools/formats/trace.h"
#include "tools/tandem/coded_blocks.h"
#include "tools/tandem/coded_head.h"
#include "tools/tandem/command.h"
#include "tools/tandem/exact.h"
#include "tools/tandem/named_codec.h"
#include "tools/tandem/options.h"
#include "tools/tandem/progress.h"
#include "tools/tandem/statistics.h"
#include "tools/tandem/table.h"
#include "tools/tandem/trace_calls.h"
#include "tools/tandem/validators.h"
#include "tools/tandem/window_options.h"

namespace tandem::cli {
namespace {

struct EvalCodecsOptions {
  CommonOptions common;
  CodecListOptions codecs;
  std::string trace;
  std::int64_t steps = 0;
  std::int32_t residual = 0;
  double rope_theta = 0;
};

/// A codec, and the runtime whose window holds the whole trace with it; none where it is refused.
struct Contestant {
  NamedCodec codec;
  WindowChoice choice;
  td_config config;
  std::unique_ptr<td::Runtime> runtime;
  std::string refusal;
};

td_config config_of(const EvalCodecsOptions& options, const tools::Trace& trace) {
  const auto& meta = trace.meta;
  auto config = td::make<td_config>();
  config.num_layers = 1 + *std::max_element(meta.layers.begin(), meta.layers.end());
  config.num_q_heads = meta.num_q_heads;
  config.num_kv_heads = meta.num_kv_heads;
  config.head_dim_k = meta.head_dim_k;
  config.head_dim_v = meta.head_dim_v;
  config.scale = meta.scale;
  apply(options.common, config);
  config.local_tokens = static_cast<std::int32_t>(meta.tokens + meta.steps);
  config.max_tokens = config.local_tokens;
  return config;
}

/// In place, since its configuration points into it.
void prepare(const EvalCodecsOptions& options, const td_config& base, const NamedCodec& codec, Contestant& contestant) {
  contestant.codec = codec;
  contestant.choice.codec = codec.codec;
  contestant.choice.residual = codec.codec.codec.kind == TD_CODEC_NONE ? 0 : options.residual;
  contestant.choice.policy = parse_policy("--window-policy", "latest");
  contestant.choice.rope_theta = options.rope_theta;
  contestant.config = base;
  contestant.config.window_dtype = codec.dtype;
  apply(contestant.choice, contestant.config);
  try {
    contestant.runtime = std::make_unique<td::Runtime>(contestant.config);
  } catch (const td::Error& error) {
    if (error.status() == TD_EINVAL) throw UsageError(fmt::format("--codecs {}: {}", codec.name, error.what()));
    if (error.status() != TD_EUNSUPPORTED) throw;
    contestant.refusal = error.what();
  }
}

std::vector<float> queries_of(const tools::Tensor& q, std::int64_t head, std::int64_t steps) {
  const std::int64_t dim = q.shape[2];
  std::vector<float> queries(static_cast<std::size_t>(steps * dim));
  const auto row_bytes = dim * static_cast<std::int64_t>(bytes_of(q.dtype));
  load_f32(q.dtype, q.data + head * q.shape[1] * row_bytes, queries.data(), steps * dim);
  return queries;
}

/// "k_error", "v_error" and "score_error" of one layer, means over its heads.
Json reconstruction_of(const td_config& config, const tools::TraceMeta& meta, const tools::TraceLayer& layer,
                       std::int64_t steps) {
  std::vector<double> k, v, scores;
  const std::int32_t group = meta.num_q_heads / meta.num_kv_heads;
  for (std::int32_t head = 0; head < meta.num_kv_heads; ++head) {
    const auto coded = code_head(config, layer, head);
    TANDEM_CHECK(coded.tokens > 0, invalid_argument, "the trace has ", meta.tokens,
                 " prompt tokens, less than a block of a codec");
    k.push_back(relative_distance(coded.coded_k, coded.k));
    v.push_back(relative_distance(coded.coded_v, coded.v));
    for (std::int32_t g = 0; g < group; ++g)
      scores.push_back(mean_logit_error(coded, queries_of(layer.dec_q, std::int64_t{head} * group + g, steps),
                                        meta.head_dim_k, meta.scale));
  }
  return {{"k_error", mean(k)}, {"v_error", mean(v)}, {"score_error", mean(scores)}};
}

/// |out - dense| / |dense| of every step and query head.
std::vector<double> output_errors(const td::Runtime& runtime, const td::Sequence& sequence,
                                  const tools::TraceMeta& meta, const tools::TraceLayer& layer,
                                  const ExactResults& exact, std::int64_t steps, Progress& progress) {
  const td_seq id = sequence.id();
  append_prompt(runtime, id, layer.layer, meta, layer, progress);
  const std::int64_t one = 1;
  const std::int64_t dim = meta.head_dim_v;
  std::vector<float> out(static_cast<std::size_t>(meta.num_q_heads * dim));
  std::vector<double> errors;
  for (std::int64_t step = 0; step < steps; ++step) {
    runtime.append(
        append_args(layer.layer, {&id, 1}, &one, tokens_of(layer.dec_k, step, 1), tokens_of(layer.dec_v, step, 1)));
    runtime.attend(attend_args(layer.layer, {&id, 1}, &one, tokens_of(layer.dec_q, step, 1),
                               td::tensor(out.data(), TD_F32, 1, meta.num_q_heads, dim)));
    for (std::int64_t head = 0; head < meta.num_q_heads; ++head)
      errors.push_back(
          relative_error(out.data() + head * dim, exact.out.data() + (step * meta.num_q_heads + head) * dim, dim));
  }
  return errors;
}

Json row_of(const Contestant& contestant, const tools::Trace& trace, std::size_t index, const ExactResults& exact,
            std::int64_t steps, Progress& progress) {
  const auto& layer = trace.layers[index];
  Json row = {{"codec", contestant.codec.name}, {"layer", layer.layer}};
  if (!contestant.refusal.empty()) {
    row["refused"] = contestant.refusal;
    return row;
  }
  const td::Sequence sequence(*contestant.runtime);
  const auto errors = output_errors(*contestant.runtime, sequence, trace.meta, layer, exact, steps, progress);
  const auto info = sequence.info(layer.layer);
  const double bytes = bytes_per_coded_token(contestant.config);
  row.update(reconstruction_of(contestant.config, trace.meta, layer, steps));
  row["error"] = {{"mean", mean(errors)}, {"p95", quantile(errors, 0.95)}};
  row["bytes_per_token"] =
      static_cast<double>(info.window_bytes) / static_cast<double>(info.window_rows * trace.meta.num_kv_heads);
  row["coded_share"] = ratio(static_cast<double>(info.coded_rows), static_cast<double>(info.window_rows));
  row["coded_bytes_per_token"] = bytes;
  row["bits_per_element"] = 8 * bytes / (trace.meta.head_dim_k + trace.meta.head_dim_v);
  return row;
}

std::string table_of(const Json& rows) {
  Table table({"codec", "layer", "K error", "V error", "score", "error", "p95", "B/token", "coded", "bits"});
  std::string refusals;
  for (const auto& row : rows) {
    const auto name = row.at("codec").get<std::string>();
    const auto layer = row.at("layer").dump();
    if (row.contains("refused")) {
      table.add_row({name, layer, "refused"});
      const auto line = fmt::format("refused, {}: {}\n", name, row.at("refused").get<std::string>());
      if (refusals.find(line) == std::string::npos) refusals += line;
      continue;
    }
    const auto text = [](const Json& of, const char* field) { return short_number(of.at(field).get<double>()); };
    table.add_row({name, layer, text(row, "k_error"), text(row, "v_error"), text(row, "score_error"),
                   text(row.at("error"), "mean"), text(row.at("error"), "p95"),
                   fmt::format("{:.1f}", row.at("bytes_per_token").get<double>()),
                   fmt::format("{:.1f}", row.at("coded_bytes_per_token").get<double>()),
                   fmt::format("{:.2f}", row.at("bits_per_element").get<double>())});
  }
  return table.text() + refusals;
}

void eval_codecs(const EvalCodecsOptions& options) {
  const auto codecs = parse_codecs(options.codecs);
  JsonOutput json(options.common.json);
  const auto trace = tools::load_trace(options.trace);
  TANDEM_CHECK(trace.meta.steps > 0, invalid_argument, "the trace has no decode steps");
  if (options.steps > trace.meta.steps)
    throw UsageError(
        not_allowed("--steps", std::to_string(options.steps), fmt::format("at most the trace's {}", trace.meta.steps)));
  const auto steps = options.steps > 0 ? options.steps : trace.meta.steps;
  const auto base = config_of(options, trace);
  std::vector<Contestant> contestants(codecs.size());
  for (std::size_t i = 0; i < codecs.size(); ++i) prepare(options, base, codecs[i], contestants[i]);

  const auto num_layers = std::ssize(trace.layers);
  std::vector<ExactResults> exact;
  {
    Progress progress("dense reference", num_layers * exact_work(trace.meta, steps));
    for (const auto& layer : trace.layers)
      exact.push_back(exact_decode(trace.meta, layer, steps, num_threads(options.common), progress));
  }
  Json report = {{"eval", "codecs"}, {"trace", options.trace}, {"tokens", trace.meta.tokens},
                 {"steps", steps},   {"rows", Json::array()},  {"version", td_version()}};
  {
    Progress progress("codecs", num_layers * std::ssize(codecs) * trace.meta.tokens);
    for (std::size_t layer = 0; layer < trace.layers.size(); ++layer)
      for (const auto& contestant : contestants)
        report["rows"].push_back(row_of(contestant, trace, layer, exact[layer], steps, progress));
  }
  print(json, table_of(report["rows"]));
  json.write(report);
}

}  // namespace

void add_eval_codecs(CLI::App& eval, Action& action) {
  const auto options = std::make_shared<EvalCodecsOptions>();
  CLI::App* command = eval.add_subcommand("codecs", "What codecs make of the keys and values of a trace");
  command->add_option("--trace", options->trace, "trace folder: meta.json and layer*.safetensors")->required();
  add_codec_list(*command, options->codecs);
  command->add_option("--steps", options->steps, "only the first decode steps; 0: all [0]")
      ->check(number_in<std::int64_t>(0, 1 << 30, "a whole number from 0 to the trace's steps"));
  command->add_option("--residual", options->residual, "latest tokens that no codec compresses; 0: 128 [0]")
      ->check(number_in(0, 1 << 20, "a whole number from 0 to 2^20"));
  command->add_option("--rope-theta", options->rope_theta, "nuq: base of the RoPE in q and k; 0: unknown [0]")
      ->check(number_in(0.0, 1e12, "a number from 0 to 10^12"));
  add_common(*command, options->common, kThreads | kIsa | kMemory | kJson);
  command->footer(
      "K and V error: |x' - x| / |x| of what the codes of the prompt stand for (whole blocks); score: mean |logit' - "
      "logit|\n"
      "over these keys and the queries of the decode steps; error: |out - dense| / |dense| per step and query head, in "
      "a\n"
      "window that holds the whole trace, the latest tokens uncoded, dense in double precision. B/token: device "
      "memory\n"
      "of that window over its tokens and KV heads; coded: what one more token takes; bits: of these per element.\n"
      "Example:\n  tandem eval codecs --trace tools/data/golden_trace --codecs bf16,int8,kivi4,kivi2");
  command->callback([options, &action] { action = [options] { eval_codecs(*options); }; });
}

}  // namespace tandem::cli
