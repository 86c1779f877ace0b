#include "runtime/window_batch.h"

#include "runtime/base/trace.h"

namespace tandem {

void WindowBatch::launch(std::span<const gpu::WindowAttention> windows) {
  Stopwatch watch;
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
    device_.wait(gpu::kWindowStream);
  } catch (...) {
    failure_ = std::current_exception();
    throw;
  }
  host_us_ += watch.lap_us();
  done_.store(true, std::memory_order_release);
}

}  // namespace tandem
