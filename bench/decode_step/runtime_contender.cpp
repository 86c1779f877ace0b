#include "bench/decode_step/runtime_contender.h"

#include <memory>

#include "runtime/base/trace.h"
#include "tools/tandem/batch_row.h"
#include "tools/tandem/trace_calls.h"

namespace tandem::bench {
namespace {

/// The window holds no quantized rows.
std::string window_dtype_for(const std::string& host_dtype) {
  return host_dtype == "int8" || host_dtype == "k8v4" ? "bf16" : host_dtype;
}

Json config_of(const RuntimeSettings& s, const tools::TraceMeta& meta) {
  Json config = {{"num_layers", s.layers},
                 {"num_q_heads", meta.num_q_heads},
                 {"num_kv_heads", meta.num_kv_heads},
                 {"head_dim_k", meta.head_dim_k},
                 {"head_dim_v", meta.head_dim_v},
                 {"scale", meta.scale},
                 {"sink_tokens", s.tiers.sinks},
                 {"local_tokens", s.tiers.local},
                 {"window_dtype", s.tiers.window_dtype.empty() ? window_dtype_for(s.host_dtype) : s.tiers.window_dtype},
                 {"host_dtype", s.host_dtype},
                 {"device", s.device},
                 {"hand_off", s.window.hand_off},
                 {"graphs", s.window.graphs},
                 {"num_threads", s.threads},
                 {"selector", s.selector},
                 {"never_slower", s.never_slower}};
  if (!s.isa.empty()) config["isa"] = s.isa;
  if (s.window.codec.codec.kind != TD_CODEC_NONE) {
    config["window_codec"] = codec_to_json<Json>(s.window.codec.get());
    config["residual_tokens"] = s.window.residual;
  }
  return config;
}

/// A runtime whose layers all hold the same trace.
class RuntimeSteps {
 public:
  RuntimeSteps(const RuntimeSettings& settings, const tools::TraceMeta& meta, const tools::TraceLayer& trace)
      : settings_(settings), meta_(meta), trace_(trace), runtime_(config_of(settings, meta).dump()) {
    for (int b = 0; b < settings.batch; ++b) {
      sequences_.emplace_back(runtime_);
      ids_.push_back(sequences_.back().id());
    }
    ones_.assign(ids_.size(), 1);
  }

  void read_prompt(cli::Progress& progress) {
    for (int layer = 0; layer < settings_.layers; ++layer) {
      for (const td_seq id : ids_) cli::append_prompt(runtime_, id, layer, meta_, trace_, progress);
      StepResult ignored;
      attend(0, layer, ignored);  // the first query makes the runtime index the prompt
    }
  }

  StepResult step(std::int64_t step, int layer) {
    StepResult result;
    const cli::BatchRow k(trace_.dec_k, step, settings_.batch);
    const cli::BatchRow v(trace_.dec_v, step, settings_.batch);
    auto stats = td::make<td_stats>();
    auto args = cli::append_args(layer, ids_, ones_.data(), k.view(), v.view());
    args.stats = &stats;
    Stopwatch watch;
    runtime_.append(args);
    result.us = watch.lap_us();
    add_stages(stats, result);
    attend(step, layer, result);
    return result;
  }

  [[nodiscard]] IndexFigures index() const {
    double rows = 0, bytes = 0, us = 0;
    for (const auto& sequence : sequences_) {
      for (int layer = 0; layer < settings_.layers; ++layer) {
        const auto info = sequence.info(layer);
        rows += static_cast<double>(info.host_rows * meta_.num_kv_heads);
        bytes += static_cast<double>(info.index_bytes);
        us += info.index_build_us;
      }
    }
    return rows > 0 ? IndexFigures{bytes / rows, 1000 * us / rows} : IndexFigures{};
  }

 private:
  void attend(std::int64_t step, int layer, StepResult& result) const {
    const cli::BatchRow q(trace_.dec_q, step, settings_.batch);
    const auto vectors = static_cast<std::size_t>(settings_.batch * meta_.num_q_heads);
    result.out.resize(vectors * static_cast<std::size_t>(meta_.head_dim_v));
    result.lse.resize(vectors);
    auto stats = td::make<td_stats>();
    auto args =
        cli::attend_args(layer, ids_, ones_.data(), q.view(),
                         td::tensor(result.out.data(), TD_F32, settings_.batch, meta_.num_q_heads, meta_.head_dim_v));
    args.lse = result.lse.data();
    args.stats = &stats;
    Stopwatch watch;
    runtime_.attend(args);
    result.us += watch.lap_us();
    add_stages(stats, result);
    result.bytes = stats.bytes[TD_WINDOW] + stats.bytes[TD_SELECT] + stats.bytes[TD_ATTEND];
    if (stats.rows_gathered < stats.rows_host) result.scattered_bytes = stats.bytes[TD_ATTEND];
    result.rows_host = stats.rows_host;
    result.rows_gathered = stats.rows_gathered;
    result.keys_visible = stats.keys_visible;
    result.keys_attended = stats.keys_attended;
    result.lse_error_estimate = stats.lse_error;
  }

  static void add_stages(const td_stats& stats, StepResult& result) {
    for (int i = 0; i < kNumStages; ++i) {
      const char* name = to_string(static_cast<Stage>(i));
      result.stage_us[name] = result.stage_us.value(name, 0.0) + stats.us[i];
    }
  }

  RuntimeSettings settings_;
  tools::TraceMeta meta_;
  const tools::TraceLayer& trace_;
  td::Runtime runtime_;
  std::vector<td::Sequence> sequences_;
  std::vector<td_seq> ids_;
  std::vector<std::int64_t> ones_;
};

}  // namespace

std::string name_of(const RuntimeSettings& settings) {
  const std::string name = selector_name(settings.selector);
  return settings.device == "host" ? name : name + " on " + settings.device;
}

Contender make_runtime_contender(const RuntimeSettings& settings, const tools::TraceMeta& meta,
                                 const tools::TraceLayer& trace, cli::Progress& progress) {
  const auto steps = std::make_shared<RuntimeSteps>(settings, meta, trace);
  steps->read_prompt(progress);
  Contender contender;
  contender.settings = {{"name", name_of(settings)}, {"selector", settings.selector},
                        {"tokens", meta.tokens},     {"threads", settings.threads},
                        {"batch", settings.batch},   {"host_dtype", settings.host_dtype},
                        {"device", settings.device}};
  contender.threads = settings.threads;
  contender.layers = settings.layers;
  contender.step = [steps](std::int64_t step, int layer) { return steps->step(step, layer); };
  contender.index = steps->index();
  return contender;
}

}  // namespace tandem::bench
