// tandem synth: writes a synthetic one-layer trace, for lengths and shapes that no small model gives.
#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "tools/tandem/command.h"
#include "tools/tandem/exact.h"
#include "tools/tandem/options.h"
#include "tools/tandem/synthetic_trace.h"
#include "tools/tandem/table.h"
#include "tools/tandem/validators.h"

namespace tandem::cli {
namespace {

struct SynthOptions {
  CommonOptions common;
  SyntheticShape shape;
  std::string out;
  std::string dtype = "bf16";
  std::string kind = "mixed";
};

constexpr std::int32_t kMaxGroup = 64;

void check_shape(const SyntheticShape& shape) {
  if (shape.head_dim % 2 != 0)
    throw UsageError(fmt::format("--head-dim: '{}' is not allowed; allowed: an even number", shape.head_dim));
  if (shape.num_q_heads % shape.num_kv_heads != 0 || shape.num_q_heads / shape.num_kv_heads > kMaxGroup)
    throw UsageError(
        fmt::format("--q-heads: '{}' is not allowed; allowed: a multiple of --kv-heads {}, at most {} times it",
                    shape.num_q_heads, shape.num_kv_heads, kMaxGroup));
}

/// Rows [first, first + count) of `tensor` (heads, tokens, dim) as (tokens, heads, dim) fp32, as the recorder takes
/// them.
std::vector<float> by_token(const tools::Tensor& tensor, std::int64_t first, std::int64_t count) {
  const std::int64_t heads = tensor.shape[0];
  const std::int64_t dim = tensor.shape[2];
  std::vector<float> rows(static_cast<std::size_t>(count * heads * dim));
  for (std::int64_t t = 0; t < count; ++t) {
    for (std::int64_t h = 0; h < heads; ++h) {
      const auto offset = (h * tensor.shape[1] + first + t) * dim * static_cast<std::int64_t>(bytes_of(tensor.dtype));
      load_f32(tensor.dtype, tensor.data + offset, rows.data() + (t * heads + h) * dim, dim);
    }
  }
  return rows;
}

void write(const SyntheticTrace& trace, const ExactResults& exact, DType dtype, OutputFolder& folder) {
  constexpr std::int64_t kChunk = 1024;
  const auto& meta = trace.meta();
  const auto layer = trace.layer();
  tools::TraceRecorder recorder(meta, dtype);
  Progress progress("writing", meta.tokens);
  const std::int64_t first_query = meta.tokens - (layer.q_tail.data == nullptr ? 0 : layer.q_tail.shape[1]);
  for (std::int64_t first = 0; first < meta.tokens;) {
    const bool has_q = first >= first_query;
    const auto count = std::min(kChunk, (has_q ? meta.tokens : first_query) - first);
    const auto q = has_q ? by_token(layer.q_tail, first - first_query, count) : std::vector<float>{};
    recorder.add_prompt(0, count, by_token(layer.k, first, count).data(), by_token(layer.v, first, count).data(),
                        has_q ? q.data() : nullptr);
    progress.advance(count);
    first += count;
  }
  const auto out_size = std::int64_t{meta.num_q_heads} * meta.head_dim_v;
  for (std::int64_t step = 0; step < meta.steps; ++step) {
    const auto out_begin = exact.out.begin() + step * out_size;
    const auto lse_begin = exact.lse.begin() + step * meta.num_q_heads;
    const std::vector<float> out(out_begin, out_begin + out_size);
    const std::vector<float> lse(lse_begin, lse_begin + meta.num_q_heads);
    recorder.add_step(0, by_token(layer.dec_q, step, 1).data(), by_token(layer.dec_k, step, 1).data(),
                      by_token(layer.dec_v, step, 1).data(), out.data(), lse.data());
  }
  folder.fill([&recorder](const auto& path) { recorder.write(path); });
}

void synth(const SynthOptions& options) {
  auto shape = options.shape;
  shape.dtype = parse_dtype("--dtype", options.dtype);
  shape.seed = options.common.seed;
  shape.kind = head_kind_named(options.kind);
  check_shape(shape);
  JsonOutput json(options.common.json);
  OutputFolder folder(options.out);
  const int threads = num_threads(options.common);
  const SyntheticTrace trace(shape, threads);
  ExactResults exact;
  {
    Progress progress("dense reference", exact_work(trace.meta(), shape.steps));
    exact = exact_decode(trace.meta(), trace.layer(), shape.steps, threads, progress);
  }
  write(trace, exact, shape.dtype, folder);

  const auto bytes = 2.0 * static_cast<double>(shape.tokens * shape.num_kv_heads * shape.head_dim) *
                     static_cast<double>(bytes_of(shape.dtype));
  print(json, fmt::format("{}: {} tokens, {} steps, {} query and {} KV heads of {}, {}, {} of keys and values\n",
                          options.out, shape.tokens, shape.steps, shape.num_q_heads, shape.num_kv_heads, shape.head_dim,
                          to_string(shape.dtype), human_bytes(bytes)));
  json.write({{"out", options.out},
              {"tokens", shape.tokens},
              {"steps", shape.steps},
              {"num_q_heads", shape.num_q_heads},
              {"num_kv_heads", shape.num_kv_heads},
              {"head_dim", shape.head_dim},
              {"dtype", to_string(shape.dtype)},
              {"kind", options.kind},
              {"query_tail", std::min(shape.query_tail, shape.tokens)},
              {"seed", shape.seed},
              {"kv_bytes", bytes}});
}

}  // namespace

void add_synth(CLI::App& app, Action& action) {
  const auto options = std::make_shared<SynthOptions>();
  auto& shape = options->shape;
  CLI::App* command = app.add_subcommand("synth", "Write a synthetic one-layer trace");
  command->add_option("--out", options->out, "trace folder to write; must not exist, or be empty")->required();
  command->add_option("--tokens", shape.tokens, "prompt tokens [32768]")
      ->check(number_in<std::int64_t>(1, 1 << 30, "a whole number from 1 to 2^30"));
  command->add_option("--steps", shape.steps, "decode steps [64]")
      ->check(number_in<std::int64_t>(1, 1 << 20, "a whole number from 1 to 2^20"));
  command->add_option("--kind", options->kind, fmt::format("{} [mixed]", fmt::join(head_kind_names(), ", ")))
      ->check(one_of(head_kind_names()));
  command->add_option("--query-tail", shape.query_tail, "prompt tokens at the end that have queries [64]")
      ->check(number_in<std::int64_t>(0, tools::kMaxQueryTail, "a whole number from 0 to 1024"));
  command->add_option("--kv-heads", shape.num_kv_heads, "KV heads [8]")
      ->check(number_in(1, 1024, "a whole number from 1 to 1024"));
  command->add_option("--q-heads", shape.num_q_heads, "query heads, a multiple of the KV heads [32]")
      ->check(number_in(1, 65536, "a whole number from 1 to 65536"));
  command->add_option("--head-dim", shape.head_dim, "elements of a head, even [128]")
      ->check(number_in(2, 1024, "an even number from 2 to 1024"));
  command->add_option("--dtype", options->dtype, "f32, f16 or bf16 [bf16]")->check(one_of({"f32", "f16", "bf16"}));
  add_common(*command, options->common, kSeed | kThreads | kJson);
  command->footer(
      "Six kinds of heads, with logits of a standard deviation of 1.2 to 5.5 nats; mixed: KV head i has kind i mod 6.\n"
      "Keys drift through topics around a mean with a few huge channels, and carry RoPE; the first four tokens are\n"
      "sinks with about 45 % of the mass; retrieval heads hold planted needles. The last tokens of the prompt come "
      "with\n"
      "queries (q_tail), for selectors that calibrate. dec_out and dec_lse are exact (dense attention in double\n"
      "precision).\n"
      "Example:\n  tandem synth --out trace-32k --tokens 32768 --seed 1");
  command->callback([options, &action] { action = [options] { synth(*options); }; });
}

}  // namespace tandem::cli
