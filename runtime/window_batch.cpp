#include "runtime/window_batch.h"

#include <array>

#include "runtime/base/trace.h"

namespace tandem {

void WindowBatch::launch(std::span<const gpu::WindowAttention> windows) {
  const TimelineSpan span(timeline_, "window launch", about_);
  Stopwatch watch;
  launched_ = Span::Clock::now();
  device_.window_attention(windows.data(), static_cast<std::int64_t>(windows.size()), gpu::kWindowStream);
  host_us_ = watch.lap_us();
}

void WindowBatch::wait() {
  if (done_.load(std::memory_order_acquire)) return;
  const std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
  if (done_.load(std::memory_order_relaxed)) return;
  Stopwatch watch;
  try {
    const TimelineSpan span(timeline_, "window wait", about_);
    device_.wait(gpu::kWindowStream);
  } catch (...) {
    failure_ = std::current_exception();
    throw;
  }
  host_us_ += watch.lap_us();
  done_.store(true, std::memory_order_release);
  if (timeline_.is_on()) record_device_spans(device_, timeline_, launched_, about_);
}

void record_device_spans(gpu::Device& device, Timeline& timeline, Span::Clock::time_point since,
                         const SpanSubject& about) {
  std::array<gpu::DeviceSpan, 16> spans;
  for (std::int64_t taken = 1; taken > 0;) {
    taken = device.take_spans(spans.data(), static_cast<std::int64_t>(spans.size()));
    for (std::int64_t i = 0; i < taken; ++i) {
      const gpu::DeviceSpan& span = spans[static_cast<std::size_t>(i)];
      timeline.record_of_device({span.name, span.begin, span.end, span.begin < since ? SpanSubject{} : about});
    }
  }
}

}  // namespace tandem
