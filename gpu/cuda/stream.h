#pragma once

#include <utility>

#include <cuda_runtime_api.h>

#include "gpu/cuda/cuda_error.h"

namespace tandem::gpu::cuda {

/// Makes `ordinal` the current device of this thread, and the one before again when it goes. That one may be lost,
/// which is no matter of this device's. Meanwhile no capture that an engine has under way in a stream of its own
/// forbids calls, nor is it spoiled by them: nothing here touches its streams. Throws Error(device_lost).
class CurrentDevice {
 public:
  explicit CurrentDevice(int ordinal) : before_(ordinal), ordinal_(ordinal) {
    if (cudaGetDevice(&before_) != cudaSuccess) {
      (void)cudaGetLastError();
      before_ = ordinal;
      TANDEM_CUDA_CHECK(cudaSetDevice(ordinal));
    } else if (before_ != ordinal) {
      TANDEM_CUDA_CHECK(cudaSetDevice(ordinal));
    }
    (void)cudaThreadExchangeStreamCaptureMode(&mode_);
  }
  ~CurrentDevice() {
    (void)cudaThreadExchangeStreamCaptureMode(&mode_);
    if (before_ != ordinal_) (void)cudaSetDevice(before_);
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int before_;
  int ordinal_;
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;  // of what went before, once exchanged
};

/// A stream of the current device that does not wait for the default stream. Throws Error(device_lost).
class CudaStream {
 public:
  CudaStream() { TANDEM_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~CudaStream() { (void)cudaStreamDestroy(stream_); }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  [[nodiscard]] cudaStream_t get() const noexcept { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// An event of the current device. Throws Error(device_lost).
template <unsigned kFlags>
class BasicEvent {
 public:
  BasicEvent() { TANDEM_CUDA_CHECK(cudaEventCreateWithFlags(&event_, kFlags)); }
  BasicEvent(BasicEvent&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  BasicEvent& operator=(BasicEvent&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  BasicEvent(const BasicEvent&) = delete;
  BasicEvent& operator=(const BasicEvent&) = delete;
  ~BasicEvent() {
    if (event_ != nullptr) (void)cudaEventDestroy(event_);
  }
  [[nodiscard]] cudaEvent_t get() const noexcept { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};
using CudaEvent = BasicEvent<cudaEventDisableTiming>;
using TimedEvent = BasicEvent<cudaEventDefault>;

}  // namespace tandem::gpu::cuda
