#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "cpu/reference_attention.h"
#include "gpu/window_policy/dmc_decision.h"
#include "runtime/base/shape.h"
#include "tests/support/dmc_fixture.h"
#include "tests/support/merging_source.h"

namespace tandem::testing {

/// DMC by its mask, in double: every token leaves a state of its entry, and query t sees its own and those after which
/// a new entry began by then.
class ReferenceEntries {
 public:
  ReferenceEntries(const AttentionShape& shape, gpu::DmcSource form, int window, double theta)
      : shape_(resolved(shape)),
        form_(form),
        window_(window),
        theta_(theta),
        heads_(static_cast<std::size_t>(shape.num_kv_heads)) {}

  void append(const MergingTokens& t) {
    const auto heads = static_cast<std::int64_t>(heads_.size());
    const auto count = static_cast<std::int64_t>(t.merges.size()) / heads;
    for (std::int64_t i = 0; i < count * heads; ++i) {
      Head& head = heads_[static_cast<std::size_t>(i % heads)];
      const bool begins = head.tokens.empty() || t.merges[static_cast<std::size_t>(i)] == 0;
      head.entries += begins ? 1 : 0;
      head.tokens.push_back({begins,
                             head.entries - 1,
                             t.weights[static_cast<std::size_t>(i)],
                             in_double(t.kv.k, i, shape_.head_dim_k),
                             in_double(t.kv.v, i, shape_.head_dim_v),
                             {},
                             {}});
      take_state(head);
    }
  }
  [[nodiscard]] std::int64_t length() const { return static_cast<std::int64_t>(heads_.front().tokens.size()); }
  [[nodiscard]] std::int64_t entries(std::size_t head) const { return heads_[head].entries; }

  /// The query at `t`; entries [first_gone, end_gone) are not there.
  [[nodiscard]] cpu::reference::Result attend(const float* q, int q_head, std::int64_t t, std::int64_t first_gone = 0,
                                              std::int64_t end_gone = 0) const {
    std::vector<double> query(q, q + shape_.head_dim_k), keys, values;
    for (const std::int64_t i : visible(q_head, t, first_gone, end_gone)) {
      const Token& token =
          heads_[static_cast<std::size_t>(q_head / shape_.group_size())].tokens[static_cast<std::size_t>(i)];
      keys.insert(keys.end(), token.key.begin(), token.key.end());
      values.insert(values.end(), token.value.begin(), token.value.end());
    }
    return cpu::reference::attention({query, keys, values, {}, shape_.scale, shape_.softcap}, shape_.head_dim_v);
  }
  /// The tokens whose states of their entries that query sees.
  [[nodiscard]] std::vector<std::int64_t> visible(int q_head, std::int64_t t, std::int64_t first_gone = 0,
                                                  std::int64_t end_gone = 0) const {
    const Head& head = heads_[static_cast<std::size_t>(q_head / shape_.group_size())];
    std::vector<std::int64_t> all;
    for (std::int64_t i = 0; i < t; ++i) {
      const std::int64_t entry = head.tokens[static_cast<std::size_t>(i)].entry;
      const bool is_final = head.tokens[static_cast<std::size_t>(i + 1)].begins;
      if (is_final && (entry < first_gone || entry >= end_gone)) all.push_back(i);
    }
    all.push_back(t);
    return all;
  }

 private:
  struct Token {
    bool begins;
    std::int64_t entry;
    double weight;
    std::vector<double> k, v;
    std::vector<double> key, value;  // of the entry, as this token left it
  };
  struct Head {
    std::vector<Token> tokens;
    std::int64_t entries = 0;
  };
  static std::vector<double> in_double(const std::vector<float>& tensor, std::int64_t row, std::int64_t dim) {
    return {tensor.begin() + row * dim, tensor.begin() + (row + 1) * dim};
  }
  void take_state(Head& head) const {
    const auto last = static_cast<std::int64_t>(head.tokens.size()) - 1;
    std::vector<double> key(static_cast<std::size_t>(shape_.head_dim_k)),
        value(static_cast<std::size_t>(shape_.head_dim_v));
    double weights = 0;
    for (std::int64_t j = last; j > last - window_; --j) {
      const Token& token = head.tokens[static_cast<std::size_t>(j)];
      weights += token.weight;
      for (std::size_t d = 0; d < key.size(); ++d) key[d] += token.weight * token.k[d];
      for (std::size_t d = 0; d < value.size(); ++d) value[d] += token.weight * token.v[d];
      if (token.begins) break;
    }
    for (double& x : key) x /= weights;
    for (double& x : value) x /= weights;
    const auto rotate = form_ == gpu::DmcSource::last_neuron ? rotated_without_last : rotated_in_double;
    head.tokens.back().key = rotate(std::move(key), theta_, last);
    head.tokens.back().value = std::move(value);
  }

  AttentionShape shape_;
  gpu::DmcSource form_;
  int window_;
  double theta_;
  std::vector<Head> heads_;
};

}  // namespace tandem::testing
