#include "tools/plan/step_model.h"

#include <algorithm>

#include "tools/plan/host_work.h"
#include "tools/plan/memory.h"

namespace tandem::plan {
namespace {

/// A matrix product of `parameters` weights with a row for each sequence: reading the weights, or the arithmetic.
double product_seconds(double parameters, const StepSettings& settings, const StepRates& rates, int sequences) {
  return std::max(parameters * bytes_of(settings.weights) / rates.device_bytes_per_s,
                  2 * parameters * sequences / rates.device_flop_per_s);
}

/// Adds the tasks of a step, layer by layer.
class StepTasks {
 public:
  StepTasks(const System& system, const ModelShape& model, const StepSettings& settings, const StepRates& rates)
      : settings_(settings),
        model_(model),
        device_(system.gpu ? Lane::device : Lane::host),
        micro_batches_(settings.ping_pong ? 2 : 1) {
    for (int m = 0; m < micro_batches_; ++m) {
      const int sequences = (settings.batch + m) / micro_batches_;
      dense_.push_back(layer_times(system, model, settings, rates, sequences, true));
      sparse_.push_back(layer_times(system, model, settings, rates, sequences, false));
      output_.push_back(output_seconds(model, settings, rates, sequences));
    }
    ready_.resize(static_cast<std::size_t>(micro_batches_));
  }

  std::vector<Task> all() {
    for (int layer = 0; layer < model_.num_layers; ++layer) {
      for (int m = 0; m < micro_batches_; ++m) begin_layer(layer, m);
      for (int m = 0; m < micro_batches_ && layer + 1 == model_.num_layers; ++m) end(m);
    }
    return std::move(tasks_);
  }

 private:
  /// What the merge of a layer has to wait for; empty before the first layer.
  struct Pending {
    std::vector<std::size_t> after;
    double behind_attention = 0;
    int layer = 0;
  };

  std::size_t add(Lane lane, double seconds, std::vector<std::size_t> after, const char* label, int layer, int m) {
    tasks_.push_back({lane, seconds, std::move(after), label, layer, m});
    return tasks_.size() - 1;
  }

  /// The device turns to this half batch: it ends the layer before, and begins this one.
  void begin_layer(int layer, int m) {
    const auto index = static_cast<std::size_t>(m);
    const bool dense = settings_.method == Method::gpu || is_dense(settings_, model_, layer);
    const LayerTimes& times = dense ? dense_[index] : sparse_[index];
    std::vector<std::size_t> after;
    if (layer > 0) after.push_back(finish_layer(m));
    const std::size_t before = add(device_, times.before_attention, after, "q, k, v", layer, m);
    Pending next{{}, times.behind_attention, layer};
    const bool host = !dense && attends_on_host(settings_.method);
    if (host) next.after.push_back(visit_host(times, before, layer, m));
    std::vector<std::size_t> attention_after = {before};
    if (!dense && settings_.method == Method::swap) attention_after.push_back(copy_layer(times, layer, m));
    next.after.push_back(
        add(device_, times.device_attention, attention_after, host ? "window" : "attention", layer, m));
    if (!dense && settings_.method == Method::swap) attended_.push_back(next.after.back());
    ready_[index] = std::move(next);
  }

  std::size_t finish_layer(int m) {
    Pending& pending = ready_[static_cast<std::size_t>(m)];
    return add(device_, pending.behind_attention, pending.after, "merge, output, feed-forward", pending.layer, m);
  }

  void end(int m) {
    const std::size_t last = finish_layer(m);
    add(device_, output_[static_cast<std::size_t>(m)], {last}, "logits", model_.num_layers, m);
  }

  /// q to the host, its work, and the partial result back.
  std::size_t visit_host(const LayerTimes& times, std::size_t before, int layer, int m) {
    if (device_ == Lane::host) return add(Lane::host, times.host, {before}, "select, attend", layer, m);
    const std::size_t sent = add(Lane::to_host, times.to_host, {before}, "q", layer, m);
    const std::size_t noticed = add(Lane::waiting, times.hand_off + times.host_fixed, {sent}, "hand-off", layer, m);
    const std::size_t attended = add(Lane::host, times.host, {noticed}, "select, attend", layer, m);
    const std::size_t returned = add(Lane::to_device, times.to_device, {attended}, "out, lse", layer, m);
    return add(Lane::waiting, times.hand_off, {returned}, "hand-off", layer, m);
  }

  /// K and V go into one of two buffers, when what it held has been attended.
  std::size_t copy_layer(const LayerTimes& times, int layer, int m) {
    constexpr std::size_t kBuffers = 2;
    std::vector<std::size_t> after;
    if (attended_.size() >= kBuffers) after.push_back(attended_[attended_.size() - kBuffers]);
    return add(Lane::to_device, times.to_device, after, "K, V", layer, m);
  }

  const StepSettings& settings_;
  const ModelShape& model_;
  Lane device_;
  int micro_batches_;
  std::vector<LayerTimes> dense_, sparse_;  // of each half batch
  std::vector<double> output_;
  std::vector<Pending> ready_;
  std::vector<std::size_t> attended_;
  std::vector<Task> tasks_;
};

}  // namespace

LayerTimes layer_times(const System& system, const ModelShape& model, const StepSettings& settings,
                       const StepRates& rates, int sequences, bool dense) {
  constexpr double kQueryBytes = 2;  // of an element; out comes back in fp32, with an lse for each head
  constexpr double kOutBytes = 4;
  const auto visible = static_cast<double>(model.visible(settings.context));
  const double q_elements = static_cast<double>(sequences) * model.num_q_heads * model.head_dim;
  const double all_bytes = sequences * device_token_bytes(model) * visible;
  const auto parameters = [](std::int64_t count) { return static_cast<double>(count); };
  LayerTimes times;
  times.before_attention = product_seconds(parameters(model.parameters_before_attention()), settings, rates, sequences);
  times.behind_attention =
      product_seconds(parameters(model.parameters_behind_attention()), settings, rates, sequences) + rates.layer_gap_s;
  times.device_attention = all_bytes / rates.device_bytes_per_s;
  if (dense || settings.method == Method::gpu) return times;
  if (settings.method == Method::swap) {
    times.to_device = all_bytes / rates.to_device_bytes_per_s;
    return times;
  }
  times.device_attention *= std::min(1.0, static_cast<double>(settings.window) / visible);
  times.host = host_seconds(system, model, settings, rates, sequences);
  if (!system.gpu || times.host == 0) return times;
  times.to_host = kQueryBytes * q_elements / rates.to_host_bytes_per_s;
  times.to_device = kOutBytes * (q_elements + sequences * model.num_q_heads) / rates.to_device_bytes_per_s;
  // What was fitted for MagicPIG is all that a layer takes beside gathering.
  const bool magicpig = settings.method == Method::magicpig;
  times.hand_off = magicpig ? 0 : rates.hand_off_s;
  times.host_fixed = magicpig ? rates.magicpig_layer_s : 0;
  return times;
}

double output_seconds(const ModelShape& model, const StepSettings& settings, const StepRates& rates, int sequences) {
  return product_seconds(static_cast<double>(model.embedding_parameters() + model.hidden_size), settings, rates,
                         sequences);
}

Schedule simulate_step(const System& system, const ModelShape& model, const StepSettings& settings,
                       const StepRates& rates) {
  return run_lanes(StepTasks(system, model, settings, rates).all());
}

}  // namespace tandem::plan
