#include <atomic>
#include <cstdint>
#include <thread>

#include "cuda.h"
#include "testing.h"

namespace emulator {
namespace {

using testing::HasSubstr;
using Array = TestArray<unsigned>;

__global__ void times_plus(unsigned* x, unsigned factor, unsigned summand) { *x = *x * factor + summand; }

class Captures : public EmulatorTest {
 protected:
  void begin(cudaStream_t stream, cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal) {
    ASSERT_EQ(cudaStreamBeginCapture(stream, mode), cudaSuccess);
  }
  /// Ends the capture and makes it executable.
  cudaGraphExec_t executable(cudaStream_t stream) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t made = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    EXPECT_EQ(cudaGraphInstantiateWithFlags(&made, graph), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    return made;
  }
};

TEST_F(Captures, ReplayAsOftenAsLaunched) {
  const TestStream stream;
  const Array x(Array::pinned, 1);
  const Array copy(Array::pinned, 1);
  x[0] = 1;
  begin(stream);
  cudaStreamCaptureStatus status{};
  EXPECT_EQ(cudaStreamIsCapturing(stream, &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusActive);
  EXPECT_EQ(launch_in(stream, 1, 1, 0, times_plus, x.data(), 2, 1), cudaSuccess);
  EXPECT_EQ(launch_in(stream, 1, 1, 0, times_plus, x.data(), 10, 0), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(copy.data(), x.data(), 4, cudaMemcpyHostToHost, stream), cudaSuccess);
  const cudaGraphExec_t graph = executable(stream);
  EXPECT_EQ(x[0], 1u) << "captured work does not run";
  EXPECT_EQ(check_leaks(), "alive: 2 pinned host allocations, 1 streams, 1 graphs");
  EXPECT_EQ(cudaGraphLaunch(graph, stream), cudaSuccess);
  EXPECT_EQ(cudaGraphLaunch(graph, stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(copy[0], 610u);
  EXPECT_EQ(cudaGraphExecDestroy(graph), cudaSuccess);
}

TEST_F(Captures, TakeInOtherStreamsByEvents) {
  const TestStream first;
  const TestStream second;
  const TestEvent fork;
  const TestEvent join;
  const Array x(Array::pinned, 1);
  x[0] = 1;
  begin(first);
  launch_in(first, 1, 1, 0, times_plus, x.data(), 3, 0);
  EXPECT_EQ(cudaEventRecord(fork, first), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(second, fork), cudaSuccess);
  launch_in(second, 1, 1, 0, times_plus, x.data(), 1, 4);
  EXPECT_EQ(cudaEventRecord(join, second), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(first, join), cudaSuccess);
  launch_in(first, 1, 1, 0, times_plus, x.data(), 5, 0);
  const cudaGraphExec_t graph = executable(first);
  EXPECT_EQ(cudaStreamQuery(second), cudaSuccess) << "the other stream is free again";
  EXPECT_EQ(cudaGraphLaunch(graph, second), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(second), cudaSuccess);
  EXPECT_EQ(x[0], 35u);
  EXPECT_EQ(cudaGraphExecDestroy(graph), cudaSuccess);
}

TEST_F(Captures, EndUnjoined) {
  const TestStream first;
  const TestStream second;
  const TestEvent fork;
  const Array x(Array::pinned, 1);
  begin(first);
  EXPECT_EQ(cudaEventRecord(fork, first), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(second, fork), cudaSuccess);
  launch_in(second, 1, 1, 0, times_plus, x.data(), 1, 4);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(first, &graph), cudaErrorStreamCaptureUnjoined);
  EXPECT_EQ(graph, nullptr);
  EXPECT_THAT(take_fault(), HasSubstr("does not wait for another one"));
}

TEST_F(Captures, EndInvalidatedAfterWaiting) {
  const TestStream stream;
  const TestEvent event;
  const auto invalidated = [&](const auto& call) {
    begin(stream);
    EXPECT_EQ(cudaEventRecord(event, stream), cudaSuccess);
    EXPECT_EQ(call(), cudaErrorStreamCaptureUnsupported);
    EXPECT_NE(take_fault(), "");
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  };
  void* pointer = nullptr;
  unsigned pageable = 0;
  const Array device(Array::device, 1);
  invalidated([&] { return cudaStreamSynchronize(stream); });
  invalidated([&] { return cudaStreamQuery(stream); });
  invalidated([&] { return cudaEventQuery(event); });
  invalidated([&] { return cudaDeviceSynchronize(); });
  invalidated([&] { return cudaMalloc(&pointer, 4); });
  invalidated([&] { return cudaMemcpyAsync(device.data(), &pageable, 4, cudaMemcpyHostToDevice, stream); });
}

TEST_F(Captures, ForbidCallsByTheirMode) {
  const TestStream stream;
  const auto error_in_thread = [] {
    cudaError_t error = cudaSuccess;
    std::thread([&error] { error = cudaDeviceSynchronize(); }).join();
    return error;
  };
  cudaGraph_t graph = nullptr;
  begin(stream, cudaStreamCaptureModeThreadLocal);
  EXPECT_EQ(error_in_thread(), cudaSuccess);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  begin(stream, cudaStreamCaptureModeRelaxed);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  begin(stream, cudaStreamCaptureModeGlobal);
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  EXPECT_EQ(cudaThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
  EXPECT_EQ(mode, cudaStreamCaptureModeGlobal);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << "this thread does not care";
  EXPECT_EQ(cudaThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
  EXPECT_EQ(mode, cudaStreamCaptureModeRelaxed);
  EXPECT_EQ(error_in_thread(), cudaErrorStreamCaptureUnsupported);
  EXPECT_NE(take_fault(), "");
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
}

TEST_F(Captures, KeepToThemselves) {
  const TestStream first;
  const TestStream second;
  const TestEvent outside;
  const TestEvent inside;
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaEventRecord(outside, second), cudaSuccess);
  begin(first);
  EXPECT_EQ(cudaStreamWaitEvent(first, outside), cudaErrorStreamCaptureIsolation);
  EXPECT_NE(take_fault(), "");
  EXPECT_EQ(cudaStreamEndCapture(first, &graph), cudaErrorStreamCaptureInvalidated);
  begin(first);
  begin(second);
  EXPECT_EQ(cudaEventRecord(inside, first), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(second, inside), cudaErrorStreamCaptureMerge);
  EXPECT_NE(take_fault(), "");
  EXPECT_EQ(cudaStreamEndCapture(first, &graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(cudaStreamEndCapture(second, &graph), cudaErrorStreamCaptureInvalidated);
}

/// The stream operations on memory, got as programs get them.
class MemoryOperations : public Captures {
 protected:
  using Function = CUresult (*)(CUstream, CUdeviceptr, cuuint32_t, unsigned);
  static Function entry(const char* name) {
    void* function = nullptr;
    EXPECT_EQ(cudaGetDriverEntryPoint(name, &function, cudaEnableDefault), cudaSuccess);
    return reinterpret_cast<Function>(function);
  }
  void SetUp() override {
    Captures::SetUp();
    wait_ = entry("cuStreamWaitValue32");
    write_ = entry("cuStreamWriteValue32");
  }
  static CUdeviceptr address(const unsigned* word) { return reinterpret_cast<CUdeviceptr>(word); }

  Function wait_ = nullptr;
  Function write_ = nullptr;
};

TEST_F(MemoryOperations, WaitForTheHostAndTellIt) {
  const TestStream stream;
  const Array words(Array::pinned, 2);
  words[0] = words[1] = 0;
  EXPECT_EQ(wait_(stream, address(&words[0]), 5, CU_STREAM_WAIT_VALUE_GEQ), CUDA_SUCCESS);
  EXPECT_EQ(write_(stream, address(&words[1]), 7, CU_STREAM_WRITE_VALUE_DEFAULT), CUDA_SUCCESS);
  atomicExch(&words[0], 4);
  EXPECT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
  EXPECT_EQ(std::atomic_ref(words[1]).load(), 0u);
  atomicExch(&words[0], 6);
  while (std::atomic_ref(words[1]).load() != 7) std::this_thread::yield();
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
}

TEST_F(MemoryOperations, CompareInFourWays) {
  const TestStream stream;
  const Array word(Array::pinned, 1);
  const auto passes = [&](unsigned found, unsigned value, unsigned flags) {
    word[0] = found;
    EXPECT_EQ(wait_(stream, address(&word[0]), value, flags), CUDA_SUCCESS);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  };
  passes(3, 0xfffffff0u, CU_STREAM_WAIT_VALUE_GEQ);  // the difference counts: epochs may wrap around
  passes(9, 9, CU_STREAM_WAIT_VALUE_EQ);
  passes(6, 2, CU_STREAM_WAIT_VALUE_AND);
  passes(6, 2, CU_STREAM_WAIT_VALUE_NOR);
}

TEST_F(MemoryOperations, AreCaptured) {
  const TestStream stream;
  const Array words(Array::pinned, 2);
  words[0] = words[1] = 0;
  begin(stream);
  EXPECT_EQ(wait_(stream, address(&words[0]), 1, CU_STREAM_WAIT_VALUE_GEQ), CUDA_SUCCESS);
  EXPECT_EQ(write_(stream, address(&words[1]), 1, CU_STREAM_WRITE_VALUE_DEFAULT), CUDA_SUCCESS);
  const cudaGraphExec_t graph = executable(stream);
  EXPECT_EQ(cudaGraphLaunch(graph, stream), cudaSuccess);
  atomicExch(&words[0], 1);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(words[1], 1u);
  EXPECT_EQ(cudaGraphExecDestroy(graph), cudaSuccess);
}

TEST_F(MemoryOperations, RefuseOrdinaryMemoryAndOddAddresses) {
  const TestStream stream;
  unsigned word = 0;
  EXPECT_EQ(wait_(stream, address(&word), 0, CU_STREAM_WAIT_VALUE_EQ), CUDA_ERROR_INVALID_VALUE);
  EXPECT_THAT(take_fault(), HasSubstr("neither in device memory nor in pinned"));
  const Array words(Array::pinned, 2);
  EXPECT_EQ(write_(stream, address(&words[0]) + 2, 0, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_THAT(take_fault(), HasSubstr("multiple of 4"));
  EXPECT_EQ(write_(nullptr, address(&words[0]), 0, 0), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_THAT(take_fault(), HasSubstr("the default stream"));
}

TEST_F(MemoryOperations, ALostDeviceStopsWaiting) {
  const TestStream stream;
  const Array words(Array::pinned, 1);
  words[0] = 0;
  EXPECT_EQ(wait_(stream, address(&words[0]), 1, CU_STREAM_WAIT_VALUE_EQ), CUDA_SUCCESS);
  lose_device(0, cudaErrorLaunchTimeout);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchTimeout);
  reset();
}

TEST_F(MemoryOperations, OtherSymbolsAreUnknown) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSuccess;
  EXPECT_EQ(cudaGetDriverEntryPointByVersion("cuMemAlloc", &function, 12000, cudaEnableDefault, &result), cudaSuccess);
  EXPECT_EQ(result, cudaDriverEntryPointSymbolNotFound);
  EXPECT_EQ(function, nullptr);
  EXPECT_EQ(cudaGetDriverEntryPoint("cuMemAlloc", &function, cudaEnableDefault), cudaErrorSymbolNotFound);
}

}  // namespace
}  // namespace emulator
