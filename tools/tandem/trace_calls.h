#pragma once

#include <cstdint>
#include <span>

#include "tandem/tandem.hpp"
#include "tools/formats/trace.h"
#include "tools/tandem/progress.h"

namespace tandem::cli {

/// Tokens [first, first + tokens) of `tensor` (heads, tokens, dim), where they lie.
td_tensor tokens_of(const tools::Tensor& tensor, std::int64_t first, std::int64_t tokens);

/// Arguments of a call on one layer of `sequences`, which point to what is given; everything optional is left out.
td_append_args append_args(std::int32_t layer, std::span<const td_seq> sequences, const std::int64_t* num_tokens,
                           const td_tensor& k, const td_tensor& v);
td_attend_args attend_args(std::int32_t layer, std::span<const td_seq> sequences, const std::int64_t* num_queries,
                           const td_tensor& q, const td_tensor& out);

/// Appends the prompt of `trace` to one layer of a sequence, its last tokens with the queries of the trace. `progress`
/// advances by tokens. Throws td::Error and Interrupted.
void append_prompt(const td::Runtime& runtime, td_seq sequence, std::int32_t layer, const tools::TraceMeta& meta,
                   const tools::TraceLayer& trace, Progress& progress);

}  // namespace tandem::cli
