#pragma once

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "gpu/window_policy/dmc_decision.h"
#include "runtime/base/random.h"
#include "runtime/base/shape.h"
#include "tests/support/runtime_driver.h"

namespace tandem::testing {

/// Tokens with what a model says of merging them, as the runtime takes it, and what that decides: (tokens, KV heads).
struct MergingTokens {
  TokenSource::Tokens kv;
  PolicyInput input;
  std::vector<char> merges;
  std::vector<double> weights;
};

/// A model's stream of tokens that merge with a probability for each KV head.
class MergingSource {
 public:
  MergingSource(const AttentionShape& shape, gpu::DmcSource form, std::vector<double> probabilities, std::uint64_t seed)
      : shape_(shape), form_(form), probabilities_(std::move(probabilities)), source_(shape, seed), random_(seed, 99) {}

  [[nodiscard]] MergingTokens tokens(std::int64_t count) {
    MergingTokens t{source_.tokens(count), {}, {}, {}};
    if (form_ == gpu::DmcSource::last_neuron) t.input.q = source_.queries(count);
    for (std::int64_t i = 0; i < count * shape_.num_kv_heads; ++i) {
      const bool merges = random_.uniform() < probabilities_[static_cast<std::size_t>(i % shape_.num_kv_heads)];
      const double logit = merges ? 0.5 : -0.5;
      double omega = 0;
      if (form_ == gpu::DmcSource::external) {
        omega = static_cast<float>(2 * random_.normal());
        t.input.merge.push_back(static_cast<float>(logit));
        t.input.importance.push_back(static_cast<float>(omega));
      } else {
        t.kv.k[static_cast<std::size_t>((i + 1) * shape_.head_dim_k - 1)] = static_cast<float>(5 + logit);
        omega = 5 + mean_neuron(t.input.q, i);
      }
      t.merges.push_back(merges ? 1 : 0);
      t.weights.push_back(1 / (1 + std::exp(-omega)));
    }
    return t;
  }
  [[nodiscard]] std::vector<float> queries(std::int64_t count) { return source_.queries(count); }

 private:
  /// Draws the last elements of the queries of a group; KV head `i` of all tokens.
  double mean_neuron(std::vector<float>& q, std::int64_t i) {
    double sum = 0;
    for (int h = 0; h < shape_.group_size(); ++h) {
      float& neuron = q[static_cast<std::size_t>((i * shape_.group_size() + h + 1) * shape_.head_dim_k - 1)];
      neuron = static_cast<float>(random_.normal() - 5);
      sum += neuron;
    }
    return sum / shape_.group_size();
  }

  AttentionShape shape_;
  gpu::DmcSource form_;
  std::vector<double> probabilities_;
  TokenSource source_;
  CounterRandom random_;
};

}  // namespace tandem::testing
