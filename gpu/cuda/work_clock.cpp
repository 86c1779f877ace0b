#include "gpu/cuda/work_clock.h"

#include <algorithm>
#include <utility>

#include "gpu/cuda/cuda_error.h"

namespace tandem::gpu::cuda {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMostSpans = 4096;  // that nobody takes
// CUDA gives times as float: its origin moves before a distance of milliseconds loses its tenths of microseconds.
constexpr std::chrono::seconds kLongestDistance{1};

}  // namespace

void WorkClock::start(TimedEvent origin, Clock::time_point time) {
  stop();
  origin_ = std::move(origin);
  origin_time_ = time;
}

void WorkClock::stop() {
  pending_.clear();
  done_.clear();
  is_open_ = false;
  origin_.reset();
}

void WorkClock::begin(const char* name, cudaStream_t stream) {
  if (!origin_) return;
  collect();
  if (pending_.empty() && Clock::now() - origin_time_ > kLongestDistance) {  // the stream comes to it at once
    TANDEM_CUDA_CHECK(cudaEventRecord(origin_->get(), stream));
    origin_time_ = Clock::now();
  }
  const auto event = [this] {
    if (idle_.empty()) return TimedEvent();
    TimedEvent taken = std::move(idle_.back());
    idle_.pop_back();
    return taken;
  };
  pending_.push_back({name, event(), event()});
  TANDEM_CUDA_CHECK(cudaEventRecord(pending_.back().begin.get(), stream));
  is_open_ = true;
}

void WorkClock::end(cudaStream_t stream) {
  if (!is_open_) return;
  TANDEM_CUDA_CHECK(cudaEventRecord(pending_.back().end.get(), stream));
  is_open_ = false;
}

Clock::time_point WorkClock::time_of(const TimedEvent& event) const {
  float milliseconds = 0;
  TANDEM_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, origin_->get(), event.get()));
  return origin_time_ +
         std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double, std::milli>(milliseconds));
}

void WorkClock::collect() {
  while (!pending_.empty() && !(is_open_ && pending_.size() == 1)) {
    Work& work = pending_.front();
    const cudaError_t status = cudaEventQuery(work.end.get());
    if (status == cudaErrorNotReady) {
      (void)cudaGetLastError();
      return;
    }
    TANDEM_CUDA_CHECK(status);
    const Clock::time_point begin = time_of(work.begin), end = std::max(begin, time_of(work.end));
    done_.push_back({work.name, begin, end});
    if (done_.size() > kMostSpans) done_.pop_front();
    if (end - origin_time_ > kLongestDistance) {
      std::swap(*origin_, work.end);
      origin_time_ = end;
    }
    idle_.push_back(std::move(work.begin));
    idle_.push_back(std::move(work.end));
    pending_.pop_front();
  }
}

std::int64_t WorkClock::take(DeviceSpan* spans, std::int64_t most) {
  const std::int64_t count = std::min(most, static_cast<std::int64_t>(done_.size()));
  std::copy_n(done_.begin(), count, spans);
  done_.erase(done_.begin(), done_.begin() + count);
  return count;
}

}  // namespace tandem::gpu::cuda
