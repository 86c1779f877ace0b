#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "testing.h"

namespace emulator {
namespace {

using Array = TestArray<unsigned>;

struct Mode {
  Progress progress;
  int max_delay_us;
};

class Streams : public EmulatorTest, public testing::WithParamInterface<Mode> {
 protected:
  void SetUp() override {
    reset({.progress = GetParam().progress, .late_after_ms = 2, .max_delay_us = GetParam().max_delay_us});
  }
};
INSTANTIATE_TEST_SUITE_P(Modes, Streams,
                         testing::Values(Mode{Progress::eager, 0}, Mode{Progress::eager, 200}, Mode{Progress::late, 0},
                                         Mode{Progress::late, 200}));

__global__ void times_plus(unsigned* x, unsigned factor, unsigned summand) { *x = *x * factor + summand; }
__global__ void raise_flag(unsigned* flag) {
  __threadfence_system();
  atomicExch(flag, 1u);
}
__global__ void wait_for_flag(unsigned* flag) {
  while (atomicAdd(flag, 0u) == 0) __nanosleep(20);
}

TEST_P(Streams, WorkInOrder) {
  const TestStream stream;
  const Array x(Array::pinned, 1);
  x[0] = 1;
  for (unsigned i = 0; i < 10; ++i) launch_in(stream, 1, 1, 0, times_plus, x.data(), 3, i);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  unsigned expected = 1;
  for (unsigned i = 0; i < 10; ++i) expected = expected * 3 + i;
  EXPECT_EQ(x[0], expected);
}

TEST_P(Streams, EventsOrderThem) {
  const TestStream first;
  const TestStream second;
  const Array x(Array::device, 1);
  unsigned result = 0;
  for (unsigned i = 0; i < 20; ++i) {
    const TestEvent set;
    EXPECT_EQ(cudaMemsetAsync(x.data(), 0, 4, first), cudaSuccess);
    launch_in(first, 1, 1, 0, times_plus, x.data(), 1, i);
    EXPECT_EQ(cudaEventRecord(set, first), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(second, set), cudaSuccess);
    launch_in(second, 1, 1, 0, times_plus, x.data(), 2, 1);
    EXPECT_EQ(cudaMemcpyAsync(&result, x.data(), 4, cudaMemcpyDeviceToHost, second), cudaSuccess);
    EXPECT_EQ(result, 2 * i + 1);  // a copy to pageable memory is over when the call returns
  }
}

TEST_P(Streams, AnEventStandsForItsLastRecord) {
  const TestStream stream;
  const TestEvent event;
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess) << "never recorded";
  const Array flag(Array::pinned, 1);
  flag[0] = 0;
  EXPECT_EQ(cudaEventRecord(event, stream), cudaSuccess);
  EXPECT_EQ(cudaEventSynchronize(event), cudaSuccess);
  launch_in(stream, 1, 1, 0, wait_for_flag, flag.data());
  EXPECT_EQ(cudaEventRecord(event, stream), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  EXPECT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
  EXPECT_EQ(cudaGetLastError(), cudaErrorNotReady);
  atomicExch(&flag[0], 1);
  EXPECT_EQ(cudaEventSynchronize(event), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
  EXPECT_EQ(cudaStreamQuery(stream), cudaSuccess);
}

TEST_P(Streams, EventsMeasureTime) {
  const TestStream stream;
  const TestEvent start(cudaEventDefault);
  const TestEvent end(cudaEventDefault);
  EXPECT_EQ(cudaEventRecord(start, stream), cudaSuccess);
  cudaLaunchHostFunc(
      stream, [](void*) { std::this_thread::sleep_for(std::chrono::milliseconds(3)); }, nullptr);
  EXPECT_EQ(cudaEventRecord(end, stream), cudaSuccess);
  EXPECT_EQ(cudaEventSynchronize(end), cudaSuccess);
  float milliseconds = 0;
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaSuccess);
  EXPECT_GE(milliseconds, 3.f);
  const TestEvent untimed;
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, untimed, end), cudaErrorInvalidResourceHandle);
  EXPECT_THAT(take_fault(), testing::HasSubstr("without timing"));
}

TEST_P(Streams, StreamsRunBesideEachOther) {  // one alone would wait for ever
  const TestStream waits;
  const TestStream raises;
  const Array flag(Array::pinned, 1);
  flag[0] = 0;
  launch_in(waits, 1, 32, 0, wait_for_flag, flag.data());
  launch_in(raises, 1, 1, 0, raise_flag, flag.data());
  EXPECT_EQ(cudaStreamSynchronize(waits), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(raises), cudaSuccess);
}

TEST_P(Streams, HostAndDeviceHandOverByMemory) {
  const TestStream stream;
  const Array words(Array::pinned, 3);  // to the host, to the device, data
  words[0] = words[1] = 0;
  words[2] = 4;
  launch_in(stream, 1, 1, 0, times_plus, &words[2], 2, 1);
  launch_in(stream, 1, 1, 0, raise_flag, &words[0]);
  launch_in(stream, 1, 1, 0, wait_for_flag, &words[1]);
  launch_in(stream, 1, 1, 0, times_plus, &words[2], 1, 1);
  while (std::atomic_ref(words[0]).load() == 0) std::this_thread::yield();
  EXPECT_EQ(words[2], 9u);
  words[2] = 100;
  atomicExch(&words[1], 1);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(words[2], 101u);
}

TEST_P(Streams, HostFunctionsRunInOrderAndMayNotCall) {
  const TestStream stream;
  std::vector<int> calls;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(cudaLaunchHostFunc(
                  stream,
                  [](void* data) {
                    auto* all = static_cast<std::vector<int>*>(data);
                    all->push_back(static_cast<int>(all->size()));
                  },
                  &calls),
              cudaSuccess);
  }
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(calls, (std::vector<int>{0, 1, 2}));
  cudaError_t inside = cudaSuccess;
  cudaLaunchHostFunc(
      stream, [](void* error) { *static_cast<cudaError_t*>(error) = cudaDeviceSynchronize(); }, &inside);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(inside, cudaErrorNotPermitted);
  EXPECT_THAT(take_fault(), testing::HasSubstr("cudaDeviceSynchronize: called from a function"));
}

TEST_P(Streams, DestroyedStreamsFinishTheirWork) {
  const Array x(Array::pinned, 1);
  x[0] = 0;
  {
    const TestStream stream;
    for (int i = 0; i < 50; ++i) launch_in(stream, 1, 1, 0, times_plus, x.data(), 1, 1);
  }
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(x[0], 50u);
}

TEST_P(Streams, FreeingWaitsForWork) {
  const TestStream stream;
  void* pointer = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, 4), cudaSuccess);
  std::atomic<bool> reached{false};
  cudaMemsetAsync(pointer, 0, 4, stream);
  cudaLaunchHostFunc(
      stream, [](void* flag) { *static_cast<std::atomic<bool>*>(flag) = true; }, &reached);
  EXPECT_EQ(cudaFree(pointer), cudaSuccess);
  EXPECT_TRUE(reached);
}

TEST_F(EmulatorTest, ALateStreamDoesNothingUnasked) {
  reset({.progress = Progress::late, .late_after_ms = 1000000});
  const TestStream stream;
  const Array x(Array::pinned, 1);
  x[0] = 1;
  launch_in(stream, 1, 1, 0, times_plus, x.data(), 1, 1);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(x[0], 1u);
  x[0] = 10;  // the kernel reads it later
  while (cudaStreamQuery(stream) == cudaErrorNotReady) std::this_thread::yield();
  EXPECT_EQ(x[0], 11u);
}

TEST_F(EmulatorTest, PinnedSourcesAreReadLateAndPageableOnesAtOnce) {
  reset({.progress = Progress::late, .late_after_ms = 1000000});
  const TestStream stream;
  const Array pinned(Array::pinned, 1);
  const Array device(Array::device, 2);
  unsigned pageable = 1;
  pinned[0] = 1;
  EXPECT_EQ(cudaMemcpyAsync(&device[0], pinned.data(), 4, cudaMemcpyHostToDevice, stream), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(&device[1], &pageable, 4, cudaMemcpyHostToDevice, stream), cudaSuccess);
  pinned[0] = pageable = 2;
  unsigned results[2] = {};
  EXPECT_EQ(cudaMemcpyAsync(results, device.data(), 8, cudaMemcpyDeviceToHost, stream), cudaSuccess);
  EXPECT_EQ(results[0], 2u);
  EXPECT_EQ(results[1], 1u);
}

TEST_F(EmulatorTest, TheDefaultStreamIsRefused) {
  void* pointer = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, 4), cudaSuccess);
  for (cudaStream_t stream : {cudaStream_t{}, cudaStreamLegacy, cudaStreamPerThread}) {
    EXPECT_EQ(cudaMemsetAsync(pointer, 0, 4, stream), cudaErrorInvalidResourceHandle);
    EXPECT_EQ(take_fault(), "cudaMemsetAsync: the default stream");
  }
  EXPECT_EQ(launch_in(nullptr, 1, 1, 0, times_plus, static_cast<unsigned*>(pointer), 1, 1),
            cudaErrorInvalidResourceHandle);
  EXPECT_EQ(take_fault(), "cudaLaunchKernelEx: the default stream");
  EXPECT_EQ(cudaFree(pointer), cudaSuccess);
}

TEST_F(EmulatorTest, DestroyedHandlesAreRefused) {
  cudaStream_t stream = nullptr;
  EXPECT_EQ(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, -1), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
  EXPECT_THAT(take_fault(), testing::HasSubstr("a stream that does not exist or is destroyed"));
  cudaEvent_t event = nullptr;
  EXPECT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorInvalidResourceHandle);
  EXPECT_THAT(take_fault(), testing::HasSubstr("an event that does not exist or is destroyed"));
}

}  // namespace
}  // namespace emulator
