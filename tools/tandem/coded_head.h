#pragma once

#include <cstdint>
#include <vector>

#include "tandem/tandem.h"
#include "tools/formats/trace.h"

namespace tandem::cli {

/// Keys and values of one KV head of a trace's prompt, fp32, and what a window makes of them: (tokens, dim) each.
struct CodedHead {
  std::int64_t tokens = 0;  ///< whole blocks only
  std::vector<float> k, v, coded_k, coded_v;
};

/// The prompt of `layer` through the codec of `config`, or through its window_dtype where there is none. Throws Error.
CodedHead code_head(const td_config& config, const tools::TraceLayer& layer, std::int32_t kv_head);

/// |a - b| / |b|, over all elements; 0 where there are none.
double relative_distance(const std::vector<float>& a, const std::vector<float>& b);

/// Mean of |scale <q, k' - k>| over the queries (dim each) and all keys k of `head`.
double mean_logit_error(const CodedHead& head, const std::vector<float>& queries, std::int64_t dim, double scale);

}  // namespace tandem::cli
