#pragma once

#include <cstdint>

#include "cpu/kernels.h"
#include "cpu/kv_store.h"
#include "cpu/logit_rule.h"

namespace tandem::lsh {

/// One query token of one GQA group, and the rows of the store that it may see.
struct SelectRequest {
  const cpu::Kernels& kernels;
  const cpu::KvStore& store;
  const cpu::QueryBlock& queries;  ///< num_queries == 1
  const cpu::LogitRule& logits;
  std::int64_t first_position;  ///< position of the token in row 0
  std::int64_t begin;           ///< visible rows [begin, end)
  std::int64_t end;
};

}  // namespace tandem::lsh
