#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/attention_pass.h"
#include "cpu/kernels.h"
#include "cpu/kv_store.h"
#include "cpu/logit_rule.h"
#include "gpu/device.h"
#include "numa/worker_pool.h"
#include "runtime/base/lease_pool.h"
#include "runtime/config.h"
#include "runtime/requests.h"

namespace tandem {

/// What all tasks of one attend call share.
struct StepContext {
  const AttendRequest& request;
  const Config& config;
  const cpu::Kernels& kernels;
  gpu::Device& device;
  numa::WorkerPool& workers;
  LeasePool<cpu::AttentionScratch>& attention_scratch;  ///< for the parts of a task
};

/// Rows of the store that a query at `position` may see; row 0 is the token at position `sinks`.
struct VisibleRows {
  std::int64_t begin;
  std::int64_t end;
  [[nodiscard]] std::int64_t count() const noexcept { return std::max<std::int64_t>(0, end - begin); }
};

inline VisibleRows visible_rows(const cpu::KvStore& store, std::int64_t sinks, const cpu::LogitRule& logits,
                                std::int64_t position) noexcept {
  return {std::max<std::int64_t>(0, logits.first_visible(position) - sinks),
          std::min(store.size(), position + 1 - sinks)};
}

}  // namespace tandem
