#include "tools/tandem/split_bench.h"

#include <algorithm>

#include "runtime/base/trace.h"
#include "tools/tandem/batch_row.h"
#include "tools/tandem/statistics.h"
#include "tools/tandem/trace_calls.h"

namespace tandem::cli {
namespace {

constexpr std::int64_t kPreludeTokens = 4096;  // enough for every selector to run all of its code

ExactResults exact_of(const tools::Trace& trace, std::int64_t steps, int threads) {
  Progress progress(std::to_string(trace.meta.tokens) + " tokens: exact reference", exact_work(trace.meta, steps));
  return exact_decode(trace.meta, trace.layers.front(), steps, threads, progress);
}

Json runtime_config(const Split& split, const SplitShape& shape, const std::string& isa, float scale) {
  Json config = config_of(split, shape, 1);
  config["selector"] = {{"kind", "all"}};  // of the sequences that are forked
  config["scale"] = scale;
  if (!isa.empty()) config["isa"] = isa;
  return config;
}

}  // namespace

SplitText::SplitText(tools::Trace of_one_layer, std::int64_t steps_to_compare, int threads,
                     std::shared_ptr<const SyntheticTrace> made_up)
    : made(std::move(made_up)),
      trace(std::move(of_one_layer)),
      exact_steps(steps_to_compare),
      exact(exact_of(trace, steps_to_compare, threads)) {}

std::shared_ptr<const SplitText> made_up_text(const SyntheticShape& shape, std::int64_t steps_to_compare, int threads) {
  auto made = std::make_shared<const SyntheticTrace>(shape, threads);
  tools::Trace trace{made->meta(), {made->layer()}};
  return std::make_shared<const SplitText>(std::move(trace), steps_to_compare, threads, std::move(made));
}

/// What every step of one split gave.
struct SplitContest::Steps {
  std::vector<double> us, append, window, select, attend, merge, errors;
  double bytes = 0, rows_host = 0, rows_gathered = 0;
};

/// The sequences of a batch, alike, in one runtime.
class SplitContest::Batch {
 public:
  Batch(const td::Runtime& runtime, const tools::TraceLayer& trace) : runtime_(&runtime), trace_(&trace) {}

  void add(td::Sequence sequence) {
    sequences_.push_back(std::move(sequence));
    ids_.push_back(sequences_.back().id());
    ones_.push_back(1);
  }
  /// The same sequences with another selector.
  [[nodiscard]] Batch fork(const td_selector& selector) const {
    Batch copy(*runtime_, *trace_);
    for (const td::Sequence& sequence : sequences_) copy.add(sequence.fork(-1, &selector));
    return copy;
  }
  [[nodiscard]] td_seq_info info() const { return sequences_.front().info(0); }

  td_stats append(std::int64_t step) const {
    const BatchRow k(trace_->dec_k, step, size());
    const BatchRow v(trace_->dec_v, step, size());
    auto stats = td::make<td_stats>();
    auto args = append_args(0, ids_, ones_.data(), k.view(), v.view());
    args.stats = &stats;
    runtime_->append(args);
    return stats;
  }
  td_stats attend(std::int64_t step, std::vector<float>& out) const {
    const BatchRow q(trace_->dec_q, step, size());
    const std::int64_t heads = trace_->dec_q.shape[0];
    const std::int64_t dim = trace_->dec_v.shape[2];
    out.resize(static_cast<std::size_t>(size() * heads * dim));
    auto stats = td::make<td_stats>();
    auto args = attend_args(0, ids_, ones_.data(), q.view(), td::tensor(out.data(), TD_F32, size(), heads, dim));
    args.stats = &stats;
    runtime_->attend(args);
    return stats;
  }

 private:
  [[nodiscard]] int size() const noexcept { return static_cast<int>(ids_.size()); }
  const td::Runtime* runtime_;
  const tools::TraceLayer* trace_;
  std::vector<td::Sequence> sequences_;
  std::vector<td_seq> ids_;
  std::vector<std::int64_t> ones_;
};

SplitContest::SplitContest(const SplitShape& shape, const std::string& isa, std::shared_ptr<const SplitText> text,
                           std::vector<Split> splits, int batch, const CacheWash& wash, Progress& progress)
    : shape_(shape),
      text_(std::move(text)),
      splits_(std::move(splits)),
      batch_(batch),
      wash_(wash),
      runtime_(runtime_config(splits_.front(), shape, isa, text_->trace.meta.scale).dump()),
      steps_(splits_.size()) {
  tools::TraceMeta brief = text_->trace.meta;
  brief.tokens = std::min(brief.tokens, kPreludeTokens);
  const tools::TraceLayer& layer = text_->trace.layers.front();
  Batch base(runtime_, layer), short_base(runtime_, layer);
  for (int b = 0; b < batch; ++b) base.add(prompt(text_->trace.meta, progress));
  short_base.add(prompt(brief, progress));
  for (const Split& split : splits_) {
    const td_selector selector = selector_of(split);
    batches_.push_back(base.fork(selector));
    preludes_.push_back(short_base.fork(selector));
    for (const Batch* each : {&batches_.back(), &preludes_.back()}) each->attend(0, out_);  // indexes the prompt
  }
}

SplitContest::~SplitContest() = default;

std::int64_t SplitContest::work(std::int64_t tokens, int batch) noexcept {
  return batch * tokens + std::min(tokens, kPreludeTokens);
}

td::Sequence SplitContest::prompt(const tools::TraceMeta& meta, Progress& progress) const {
  td::Sequence sequence(runtime_);
  append_prompt(runtime_, sequence.id(), 0, meta, text_->trace.layers.front(), progress);
  return sequence;
}

void SplitContest::round(Progress& progress) {
  if (step_ >= text_->trace.meta.steps) return;
  for (std::size_t i = 0; i < splits_.size(); ++i) {
    preludes_[i].append(step_);
    wash_.reader.read(wash_.threads);
    preludes_[i].attend(step_, out_);
    take_step(i);
    progress.advance();
  }
  ++step_;
}

void SplitContest::take_step(std::size_t i) {
  Steps& steps = steps_[i];
  Stopwatch watch;
  const td_stats append = batches_[i].append(step_);
  const td_stats attend = batches_[i].attend(step_, out_);
  const double us = watch.lap_us();
  if (step_ < text_->exact_steps) add_errors(steps);
  if (step_ == 0) return;
  const auto threads = static_cast<double>(splits_[i].threads);
  steps.us.push_back(us);
  steps.append.push_back((append.us[TD_APPEND] + append.us[TD_EVICT] + attend.us[TD_INDEX]) / threads);
  steps.window.push_back(attend.us[TD_WINDOW] / threads);
  steps.select.push_back(attend.us[TD_SELECT] / threads);
  steps.attend.push_back(attend.us[TD_ATTEND] / threads);
  steps.merge.push_back(attend.us[TD_MERGE] / threads);
  steps.bytes += static_cast<double>(attend.bytes[TD_WINDOW] + attend.bytes[TD_SELECT] + attend.bytes[TD_ATTEND]);
  steps.rows_host += static_cast<double>(attend.rows_host);
  steps.rows_gathered += static_cast<double>(attend.rows_gathered);
}

void SplitContest::add_errors(Steps& steps) const {
  const std::int64_t heads = text_->trace.meta.num_q_heads;
  const std::int64_t dim = text_->trace.meta.head_dim_v;
  const double* exact = text_->exact.out.data() + step_ * heads * dim;
  for (std::int64_t h = 0; h < heads; ++h)
    steps.errors.push_back(relative_error(out_.data() + h * dim, exact + h * dim, dim));
}

std::vector<SplitSample> SplitContest::samples() const {
  std::vector<SplitSample> samples;
  for (std::size_t i = 0; i < splits_.size(); ++i) samples.push_back(summed_up(i));
  return samples;
}

SplitSample SplitContest::summed_up(std::size_t i) const {
  const td_seq_info info = batches_[i].info();
  const Steps& steps = steps_[i];
  const auto count = static_cast<double>(steps.us.size());
  SplitSample sample;
  sample.at = {splits_[i], text_->trace.meta.tokens, batch_};
  sample.us = quantile(steps.us, 0.25);
  sample.median_us = quantile(steps.us, 0.5);
  sample.append_us = quantile(steps.append, 0.5);
  sample.window_us = quantile(steps.window, 0.5);
  sample.select_us = quantile(steps.select, 0.5);
  sample.attend_us = quantile(steps.attend, 0.5);
  sample.merge_us = quantile(steps.merge, 0.5);
  sample.bytes = steps.bytes / count;
  sample.host_rows = steps.rows_host / count / (batch_ * shape_.num_kv_heads);
  sample.gathered_share = ratio(steps.rows_gathered, steps.rows_host);
  sample.window_bytes = static_cast<double>(info.window_bytes);
  sample.host_bytes = static_cast<double>(info.kv_bytes + info.index_bytes);
  sample.error = mean(steps.errors);
  sample.error_p95 = quantile(steps.errors, 0.95);
  return sample;
}

}  // namespace tandem::cli
