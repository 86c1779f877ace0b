#pragma once

#include <utility>

#include <cuda_runtime_api.h>

#include "gpu/cuda/cuda_error.h"

namespace tandem::probes {

/// Time between two points of a stream on the device's clock, which has a resolution of about half a microsecond.
/// Throws Error(device_lost).
class StreamTimer {
 public:
  explicit StreamTimer(cudaStream_t stream) : stream_(stream) {
    TANDEM_CUDA_CHECK(cudaEventCreateWithFlags(&begin_, cudaEventDefault));
    TANDEM_CUDA_CHECK(cudaEventCreateWithFlags(&end_, cudaEventDefault));
  }
  StreamTimer(const StreamTimer&) = delete;
  StreamTimer& operator=(const StreamTimer&) = delete;
  ~StreamTimer() {
    if (begin_ != nullptr) (void)cudaEventDestroy(begin_);
    if (end_ != nullptr) (void)cudaEventDestroy(end_);
  }

  /// Microseconds that the stream takes for what `launch` puts into it; waits for it.
  template <typename Launch>
  double us(Launch&& launch) const {
    float ms = 0.f;
    TANDEM_CUDA_CHECK(cudaEventRecord(begin_, stream_));
    std::forward<Launch>(launch)();
    TANDEM_CUDA_CHECK(cudaEventRecord(end_, stream_));
    TANDEM_CUDA_CHECK(cudaEventSynchronize(end_));
    TANDEM_CUDA_CHECK(cudaEventElapsedTime(&ms, begin_, end_));
    return 1000.0 * static_cast<double>(ms);
  }

 private:
  cudaStream_t stream_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

}  // namespace tandem::probes
