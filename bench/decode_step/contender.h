#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bench/decode_step/spec.h"
#include "tools/tandem/progress.h"

namespace tandem::bench {

/// What one decode step of one layer gave. The runtime fills all of it; baselines leave what they lack at its default.
struct StepResult {
  std::vector<float> out;            ///< (batch, num_q_heads, head_dim_v)
  std::vector<float> lse;            ///< (batch, num_q_heads); empty: not known
  double us = 0;                     ///< wall clock: append of the token, then attention
  Json stage_us = Json::object();    ///< worker time per stage, summed over the workers
  std::int64_t bytes = 0;            ///< of keys, values and index that the step had to read
  std::int64_t scattered_bytes = 0;  ///< of these, rows that a selection left apart
  std::int64_t rows_host = 0, rows_gathered = 0;
  std::int64_t keys_visible = 0, keys_attended = 0;
  double lse_error_estimate = -1;  ///< the method's own; negative: none
};

/// What a method keeps beside the keys and values.
struct IndexFigures {
  double bytes_per_token = 0;     ///< and KV head
  double build_ns_per_token = 0;  ///< worker time, and KV head
};

/// One configuration under measurement, whatever it is made of.
struct Contender {
  Json settings;  ///< "name", "selector", "tokens", "threads", "batch", "host_dtype"
  int threads = 1;
  int layers = 1;                                                ///< copies of the data, visited in turn
  std::function<StepResult(std::int64_t step, int layer)> step;  ///< steps come in order, for each layer
  std::function<void(std::int64_t step)> prelude;  ///< the same step over other, few data: loads code, not data
  IndexFigures index;
};

}  // namespace tandem::bench
