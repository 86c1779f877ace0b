// tandem calibrate: learns what codec nuq needs to know of a model, as the file that a configuration names.
#include <algorithm>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "cpu/codec/nuq.h"
#include "cpu/codec/nuq_fit.h"
#include "runtime/nuq_file.h"
#include "tools/formats/input_file.h"
#include "tools/tandem/calibration_samples.h"
#include "tools/tandem/command.h"
#include "tools/tandem/needles.h"
#include "tools/tandem/options.h"
#include "tools/tandem/progress.h"
#include "tools/tandem/table.h"
#include "tools/tandem/validators.h"
#include "tools/tandem/window_options.h"

namespace tandem::cli {
namespace {

struct CalibrateOptions {
  CommonOptions common;
  std::string model, prompts, text, trace, out;
  std::string bits = "2,3,4";
  std::int64_t tokens = 2048;
  double outliers = 0.01;
  std::optional<double> rope_theta;
  std::int32_t rope_dims = 0;
  bool rope_interleaved = false;
};

void check_sources(const CalibrateOptions& options) {
  if (options.model.empty() == options.trace.empty()) throw UsageError("give one of --model and --trace");
  if (!options.model.empty()) {
    if (options.prompts.empty() == options.text.empty())
      throw UsageError("give one of --prompts and --text with --model");
    if (options.rope_theta || options.rope_dims != 0 || options.rope_interleaved)
      throw UsageError("--rope-theta, --rope-dims, --rope-interleaved: not allowed with --model, which has its own");
    return;
  }
  if (!options.prompts.empty() || !options.text.empty())
    throw UsageError("--prompts, --text: not allowed with --trace, which has its own tokens");
  if (!options.rope_theta)
    throw UsageError("--rope-theta is missing; --trace needs that of the model, or 0 where keys are not rotated");
}

std::vector<std::int32_t> parse_bits(const std::string& list) {
  std::vector<std::int32_t> bits;
  for (const auto& part : split_list(list)) {
    const auto value = parse_or<std::int32_t>(part, 0);
    if (value < cpu::kLeastNuqBits || value > cpu::kMostNuqBits ||
        std::find(bits.begin(), bits.end(), value) != bits.end())
      throw UsageError(not_allowed("--bits", list, "2, 3 and 4, each once at most, as in 2,4"));
    bits.push_back(value);
  }
  return bits;
}

std::vector<std::string> texts_of(const CalibrateOptions& options) {
  std::vector<std::string> texts;
  if (options.text.empty()) {
    for (const auto& prompt : load_needles(options.prompts, "--prompts"))
      texts.push_back(prompt.context + prompt.question + prompt.answer);
  } else {
    texts.push_back(tools::InputFile(options.text, "--text").text());
    TANDEM_CHECK(!texts.front().empty(), io, "--text: ", options.text, ": the text is empty");
  }
  return texts;
}

CalibrationSamples samples_of(const CalibrateOptions& options) {
  if (options.model.empty()) {
    const tools::Trace trace = tools::load_trace(options.trace);
    AttentionShape shape;
    shape.head_dim_k = trace.meta.head_dim_k;
    const cpu::RopeParams rope{*options.rope_theta, options.rope_dims, options.rope_interleaved};
    try {
      cpu::validate(rope, shape);
    } catch (const Error& error) {
      throw UsageError(error.what());
    }
    return samples_of_trace(trace, rope, options.tokens);
  }
  const auto texts = texts_of(options);
  auto model = llama::Llama::load(options.model);
  refuse_merging(options.model, model.attention_config());
  llama::set_blas_threads(num_threads(options.common));
  auto config = model.attention_config();
  config.max_tokens = model.config().max_positions;
  apply(options.common, config);
  apply(TierOptions{}, TD_F32, TD_F32, config);
  const auto runtime = make_runtime(config);
  return samples_of_model(model, runtime, texts, options.tokens);
}

cpu::NuqCalibration learn(const CalibrationSamples& samples, double outliers, const std::vector<std::int32_t>& bits) {
  const cpu::NuqShape shape{static_cast<std::int32_t>(samples.layers.size()),
                            samples.num_kv_heads,
                            samples.head_dim_k,
                            samples.head_dim_v,
                            samples.rope,
                            outliers};
  std::vector<cpu::NuqLayer> layers;
  Progress progress("learning", shape.num_layers);
  for (const auto& layer : samples.layers) {
    layers.push_back(cpu::fit_nuq_layer(shape, {samples.tokens, layer.k.data(), layer.v.data()}, bits));
    progress.advance();
  }
  return {shape, std::move(layers)};
}

/// Per number of bits: bytes that a token of a KV head takes, and by how much of its length K and V are off.
Json errors_of(const std::shared_ptr<const cpu::NuqCalibration>& calibration, const CalibrationSamples& samples) {
  Json list = Json::array();
  Progress progress("checking", static_cast<std::int64_t>(calibration->bits().size() * samples.layers.size()));
  for (const std::int32_t bits : calibration->bits()) {
    cpu::NuqError total;
    for (std::size_t i = 0; i < samples.layers.size(); ++i) {
      const auto& layer = samples.layers[i];
      const auto of_layer = cpu::nuq_error(calibration->shape(), calibration->layer(static_cast<std::int32_t>(i)),
                                           {samples.tokens, layer.k.data(), layer.v.data()}, bits);
      total.k += of_layer.k / static_cast<double>(samples.layers.size());
      total.v += of_layer.v / static_cast<double>(samples.layers.size());
      progress.advance();
    }
    const auto format =
        cpu::nuq_format(*cpu::nuq_tables(calibration, 0, 0, bits), bits, calibration->shape().key_outliers());
    list.push_back({{"bits", bits},
                    {"bytes_per_token", format.block_bytes / format.block_rows},
                    {"k_error", total.k},
                    {"v_error", total.v}});
  }
  return list;
}

std::string text_of(const CalibrateOptions& options, const CalibrationSamples& samples, const Json& errors) {
  Table table({"bits", "bytes per token and head", "K error", "V error"});
  for (const Json& row : errors)
    table.add_row({row.at("bits").dump(), row.at("bytes_per_token").dump(),
                   short_number(row.at("k_error").get<double>()), short_number(row.at("v_error").get<double>())});
  return fmt::format("{}: {} layers, {} KV heads of {} and {}, learnt from {} tokens\n", options.out,
                     samples.layers.size(), samples.num_kv_heads, samples.head_dim_k, samples.head_dim_v,
                     samples.tokens) +
         table.text();
}

void calibrate(const CalibrateOptions& options) {
  check_sources(options);
  const auto bits = parse_bits(options.bits);
  JsonOutput json(options.common.json);
  JsonOutput out(options.out, "--out");
  const CalibrationSamples samples = samples_of(options);
  const auto calibration = std::make_shared<const cpu::NuqCalibration>(learn(samples, options.outliers, bits));
  const Json errors = errors_of(calibration, samples);
  out.write(Json::parse(nuq_to_json(*calibration)));
  if (!out.is_stdout()) print(json, text_of(options, samples, errors));
  json.write({{"out", options.out},
              {"tokens", samples.tokens},
              {"num_layers", samples.layers.size()},
              {"num_kv_heads", samples.num_kv_heads},
              {"head_dim_k", samples.head_dim_k},
              {"head_dim_v", samples.head_dim_v},
              {"rope_theta", samples.rope.theta},
              {"outliers", options.outliers},
              {"bits", errors},
              {"version", td_version()}});
}

void add_sources(CLI::App& command, CalibrateOptions& options) {
  const std::string group = "What to learn from";
  command.add_option("--model", options.model, "model folder: config.json and model.safetensors")->group(group);
  command.add_option("--prompts", options.prompts, "jsonl file of prompts, with context, question and answer")
      ->group(group);
  command.add_option("--text", options.text, "file of plain text")->group(group);
  command.add_option("--trace", options.trace, "trace folder; all layers that it has, in order")->group(group);
  command.add_option("--tokens", options.tokens, "tokens to learn from, at most; of a trace the last ones [2048]")
      ->check(number_in<std::int64_t>(1, 1 << 24, "a whole number from 1 to 2^24"))
      ->group(group);
  command.add_option("--rope-theta", options.rope_theta, "of the trace's model; 0: keys are not rotated")
      ->check(number_in(0.0, 1e12, "a number from 1 to 1e12, or 0"))
      ->group(group);
  command.add_option("--rope-dims", options.rope_dims, "elements of a key that are rotated; 0: all [0]")
      ->check(number_in(0, kMaxHeadDim, "an even number from 0 to 1024"))
      ->group(group);
  command.add_flag("--rope-interleaved", options.rope_interleaved, "pairs are neighbours (GPT-J), not halves (Llama)")
      ->group(group);
}

}  // namespace

void add_calibrate(CLI::App& app, Action& action) {
  const auto options = std::make_shared<CalibrateOptions>();
  CLI::App* command = app.add_subcommand("calibrate", "Learn what codec nuq needs to know of a model");
  add_sources(*command, *options);
  command->add_option("--out", options->out, "write the calibration to this file; - is standard output")->required();
  command->add_option("--bits", options->bits, "numbers of bits to learn levels for [2,3,4]");
  command->add_option("--outliers", options->outliers, "share of elements that are kept apart; 0: none [0.01]")
      ->check(number_in(0.0, cpu::kMostNuqOutliers, fmt::format("a number from 0 to {}", cpu::kMostNuqOutliers)));
  add_common(*command, options->common, kThreads | kIsa | kJson | kMemory);
  command->footer(
      "The window's codec nuq (KVQuant, arXiv:2401.18079) codes keys as they are before RoPE in a range of their\n"
      "channel, and values in one of their token, as the nearest of a few levels; ranges and levels are learnt here,\n"
      "for each layer, once per model. Use text like that which the model will read. The errors are those of K and V\n"
      "on the tokens learnt from, in units of their length, with room for every outlier.\n"
      "Example:\n  tandem calibrate --model tools/data/tiny-llama --prompts tools/data/needle_prompts.jsonl "
      "--tokens 8192 --out nuq.json");
  command->callback([options, &action] { action = [options] { calibrate(*options); }; });
}

}  // namespace tandem::cli
