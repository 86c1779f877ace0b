#pragma once

#include <cstdint>

#include "gpu/device.h"
#include "runtime/step_context.h"
#include "runtime/step_plan.h"
#include "runtime/step_stats.h"

namespace tandem {

// Exact tasks whose host rows a device attends, which come to it piece by piece (gpu::Device::host_attention), while
// the workers attend those of the others.

/// Query vectors from which on the exact queries that a call has of one sequence and KV head are worth the passage of
/// their rows. A row of d elements for K and d for V, of e bytes, takes 2 d e / B over PCIe (B = 25 GB/s) and, with n
/// vectors, 4 d n / R on a host (R = 1 TFLOP/s, of some 16 to 32 cores): the device is sooner from n = e R / 2 B = 20 e
/// on, 40 for 16 bits. Three times that, for hosts that are faster and links that are slower. Constant: it decides
/// bits.
constexpr std::int64_t least_streamed_vectors(DType host_dtype) noexcept {
  return 64 * (host_dtype == DType::f32 ? 4 : 2);
}

/// Marks the exact tasks whose host rows `device` attends (Task::streamed); whether there are any. Each (sequence, KV
/// head) is judged by its own exact queries that see host rows. Throws Error(device_lost).
bool plan_streaming(const AttendRequest& request, const Config& config, const cpu::RowLayout& host_layout,
                    gpu::Device& device, std::vector<Task>& tasks);

/// The streamed tasks of one call, from their launch until their results lie in StepBuffers::memories.
class StreamedTasks {
 public:
  StreamedTasks(const StepContext& step, StepBuffers& buffers) : step_(step), buffers_(buffers) {}
  StreamedTasks(const StreamedTasks&) = delete;
  StreamedTasks& operator=(const StreamedTasks&) = delete;

  /// Whose workers share the copying.
  [[nodiscard]] int node() const noexcept { return node_; }
  /// Collects the tasks, which are prepared; whether there are any. Throws only when memory has to grow.
  bool collect();
  /// Sends their rows, from one of the tasks of WorkerPool::run(). Throws Error(device_lost).
  void send(StepStats& stats);
  /// Returns when their results are there, or nobody will write them any more. Throws Error(device_lost).
  void wait(StepStats& stats);

 private:
  const StepContext& step_;
  StepBuffers& buffers_;
  int node_ = 0;
  bool begun_ = false;
};

}  // namespace tandem
