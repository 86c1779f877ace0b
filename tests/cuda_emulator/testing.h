#pragma once
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cuda_emulator/emulator.h"
#include "cuda_runtime.h"

namespace emulator {

/// A test on a fresh machine. Fails where a fault is left over that it has not taken, or something is not given back.
class EmulatorTest : public testing::Test {
 protected:
  void SetUp() override { reset(); }
  void TearDown() override {
    EXPECT_EQ(take_fault(), "");
    EXPECT_EQ(check_leaks(), "");
  }
};

/// A stream that is destroyed at the end.
class TestStream {
 public:
  TestStream() { EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess); }
  ~TestStream() { cudaStreamDestroy(stream_); }
  TestStream(const TestStream&) = delete;
  TestStream& operator=(const TestStream&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class TestEvent {
 public:
  explicit TestEvent(unsigned flags = cudaEventDisableTiming) {
    EXPECT_EQ(cudaEventCreateWithFlags(&event_, flags), cudaSuccess);
  }
  ~TestEvent() { cudaEventDestroy(event_); }
  TestEvent(const TestEvent&) = delete;
  TestEvent& operator=(const TestEvent&) = delete;
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

/// Device memory, or pinned host memory, of `count` elements.
template <class T>
class TestArray {
 public:
  enum Where { device, pinned };
  TestArray(Where where, std::size_t count) : where_(where) {
    void* pointer = nullptr;
    EXPECT_EQ(where == device ? cudaMalloc(&pointer, count * sizeof(T))
                              : cudaHostAlloc(&pointer, count * sizeof(T), cudaHostAllocMapped),
              cudaSuccess);
    data_ = static_cast<T*>(pointer);
  }
  ~TestArray() { where_ == device ? cudaFree(data_) : cudaFreeHost(data_); }
  TestArray(const TestArray&) = delete;
  TestArray& operator=(const TestArray&) = delete;
  [[nodiscard]] T* data() const { return data_; }
  T& operator[](std::size_t i) const { return data_[i]; }

 private:
  Where where_;
  T* data_ = nullptr;
};

template <class... Parameters, class... Arguments>
cudaError_t launch_in(cudaStream_t stream, dim3 grid, dim3 block, std::size_t shared_bytes,
                      void (*kernel)(Parameters...), Arguments&&... arguments) {
  const cudaLaunchConfig_t config{grid, block, shared_bytes, stream, nullptr, 0};
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

/// Runs `kernel` on a stream of its own and waits for it; the fault that it ends with, or nothing.
template <class... Parameters, class... Arguments>
std::string run_kernel(dim3 grid, dim3 block, std::size_t shared_bytes, void (*kernel)(Parameters...),
                       Arguments&&... arguments) {
  const TestStream stream;
  EXPECT_EQ(launch_in(stream, grid, block, shared_bytes, kernel, std::forward<Arguments>(arguments)...), cudaSuccess);
  cudaStreamSynchronize(stream);
  return take_fault();
}

}  // namespace emulator
