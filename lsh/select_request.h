#pragma once

#include <cstdint>

#include "cpu/kernels.h"
#include "cpu/key_coding.h"
#include "cpu/kv_store.h"
#include "cpu/logit_rule.h"
#include "cpu/page_pool.h"
#include "numa/worker_pool.h"
#include "runtime/base/background.h"

namespace tandem::lsh {

/// Where the indexes of one head keep what they hold, and who works for them. All must outlive them.
struct IndexMemory {
  numa::MemoryLedger* ledger;
  cpu::PagePools* pools;
  int node = 0;
  BackgroundThread* background = nullptr;  ///< does what no step should wait for; null: see next
  const cpu::KeyCoder* coder = nullptr;    ///< is asked to code many rows; null or empty: nobody is
  bool calibrates_in_steps = false;        ///< without a background thread, that is done by steps, or else not at all
};

/// One query token of one GQA group, and the rows of the store that it may see.
struct SelectRequest {
  const cpu::Kernels& kernels;
  const cpu::KvStore& store;
  const cpu::QueryBlock& queries;  ///< num_queries == 1
  const cpu::LogitRule& logits;
  std::int64_t first_position;  ///< position of the token in row 0
  std::int64_t begin;           ///< visible rows [begin, end)
  std::int64_t end;
  std::int64_t budget = 0;         ///< rows that a policy which draws them should take; 0: what its parameters say
  numa::NodeWorkers workers = {};  ///< who helps with what can be split
};

}  // namespace tandem::lsh
