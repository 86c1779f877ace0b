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
#include "runtime/base/timeline.h"
#include "runtime/config.h"
#include "runtime/requests.h"
#include "runtime/step_plan.h"
#include "runtime/window_batch.h"

namespace tandem {

/// What all tasks of one attend call share.
struct StepContext {
  const AttendRequest& request;
  const Config& config;
  const cpu::Kernels& kernels;
  gpu::Device& device;
  numa::WorkerPool& workers;
  LeasePool<cpu::AttentionScratch>& attention_scratch;  ///< for the parts of a task
  std::vector<float>& mass;                             ///< StepBuffers::mass
  Timeline& timeline;
  std::int64_t call;              ///< its number
  WindowBatch* window = nullptr;  ///< of a device that works beside the host; nullptr: each task attends its window
};

inline SpanSubject subject_of(const StepContext& step, const Task& task) noexcept {
  return {.call = step.call,
          .sequence = static_cast<std::int64_t>(task.sequence),
          .layer = step.request.layer,
          .kv_head = task.head,
          .position = task.first_position};
}

/// Rows of a store that a query may see.
struct VisibleRows {
  std::int64_t begin;
  std::int64_t end;
  [[nodiscard]] std::int64_t count() const noexcept { return std::max<std::int64_t>(0, end - begin); }
};

/// Of these rows, those that the window keeps.
inline std::int64_t kept_between(const gpu::WindowCache& window, VisibleRows rows) noexcept {
  const std::span<const std::uint32_t> kept = window.kept_rows();
  return std::lower_bound(kept.begin(), kept.end(), std::max(rows.begin, rows.end)) -
         std::lower_bound(kept.begin(), kept.end(), rows.begin);
}

/// Row 0 of the store is the token at `first_position`.
inline VisibleRows visible_rows(const cpu::KvStore& store, std::int64_t first_position, const cpu::LogitRule& logits,
                                std::int64_t position) noexcept {
  return {std::max<std::int64_t>(0, logits.first_visible(position) - first_position),
          std::min(store.size(), position + 1 - first_position)};
}

inline VisibleRows visible_rows(const Task& task, const cpu::LogitRule& logits, std::int64_t position) noexcept {
  return visible_rows(task.head_state().store, task.layer->first_host_position(), logits, position);
}

}  // namespace tandem
