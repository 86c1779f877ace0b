#include "runtime/streamed_tasks.h"

#include <algorithm>

#include "runtime/task_run.h"

namespace tandem {
namespace {

bool sees_host_rows(const Task& task) noexcept { return task.exact && task.last_range > task.first_range; }

/// visit(begin, end) for the tasks of each sequence, which follow each other.
template <typename Visit>
void for_each_sequence(const std::vector<Task>& tasks, const Visit& visit) {
  for (std::size_t begin = 0, end = 0; begin < tasks.size(); begin = end) {
    while (end < tasks.size() && tasks[end].layer == tasks[begin].layer) ++end;
    visit(begin, end);
  }
}

}  // namespace

bool plan_streaming(const AttendRequest& request, const Config& config, const cpu::RowLayout& host_layout,
                    gpu::Device& device, std::vector<Task>& tasks) {
  if (!request.use_host || !device.is_asynchronous()) return false;
  const std::int64_t least = least_streamed_vectors(host_layout.dtype);
  bool any = false;
  for_each_sequence(tasks, [&](std::size_t begin, std::size_t end) {
    for (std::int64_t head = 0; head < config.shape.num_kv_heads; ++head) {
      const auto is_one = [&](const Task& task) { return task.head == head && sees_host_rows(task); };
      std::int64_t vectors = 0;
      for (std::size_t t = begin; t < end; ++t)
        if (is_one(tasks[t])) vectors += std::int64_t{tasks[t].num_queries} * config.shape.group_size();
      if (vectors < least) continue;
      for (std::size_t t = begin; t < end; ++t) tasks[t].streamed = tasks[t].streamed || is_one(tasks[t]);
      any = true;
    }
  });
  if (!any || device.prepare_host_attention(host_layout)) return any;
  for (Task& task : tasks) task.streamed = false;
  return false;
}

/// Tasks of one head follow each other, so that they share the passage of its rows.
bool StreamedTasks::collect() {
  buffers_.streamed.clear();
  for_each_sequence(buffers_.tasks, [&](std::size_t begin, std::size_t end) {
    for (std::int64_t head = 0; head < step_.config.shape.num_kv_heads; ++head) {
      for (std::size_t t = begin; t < end; ++t) {
        Task& task = buffers_.tasks[t];
        if (task.streamed && task.head == head)
          buffers_.streamed.push_back(streamed_work(step_, task, buffers_.memories[t]));
      }
    }
  });
  if (buffers_.streamed.empty()) return false;
  const auto first =
      std::find_if(buffers_.tasks.begin(), buffers_.tasks.end(), [](const Task& task) { return task.streamed; });
  node_ = first->head_state().window.node();
  return true;
}

void StreamedTasks::send(StepStats& stats) {
  TimelineSpan span(step_.timeline, "stream", {.call = step_.call, .layer = step_.request.layer});
  Stopwatch watch;
  begun_ = true;
  stats.bytes_streamed = step_.device.host_attention(
      buffers_.streamed.data(), static_cast<std::int64_t>(buffers_.streamed.size()), gpu::kHostRowsStream);
  span.subject.bytes = stats.bytes_streamed;
  stats.trace[Stage::attend].bytes += stats.bytes_streamed;
  stats.trace[Stage::attend].us += watch.lap_us();
}

void StreamedTasks::wait(StepStats& stats) {
  if (!begun_) return;
  const TimelineSpan span(step_.timeline, "stream wait", {.call = step_.call, .layer = step_.request.layer});
  Stopwatch watch;
  step_.device.wait(gpu::kHostRowsStream);
  stats.trace[Stage::attend].us += watch.lap_us();
}

}  // namespace tandem
