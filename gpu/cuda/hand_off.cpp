#include "gpu/cuda/hand_off.h"

#include <chrono>
#include <thread>

#include <cuda.h>

#include "gpu/cuda/cuda_error.h"
#include "runtime/base/error.h"
#include "runtime/base/log.h"

namespace tandem::gpu::cuda {
namespace {

using Clock = std::chrono::steady_clock;

/// The host asks the driver whether the stream still works after this many looks at the epoch, and then every so often.
constexpr int kLooksBetweenQueries = 4096;

/// A function of the driver, or nullptr. The driver is not linked: there may be none.
void* driver_function(const char* name) {
  void* function = nullptr;
#if CUDART_VERSION >= 12000
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  const cudaError_t status = cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found);
#else
  const cudaError_t status = cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found);
#endif
  if (status == cudaSuccess && found == cudaDriverEntryPointSuccess) return function;
#else
  if (cudaGetDriverEntryPoint(name, &function, cudaEnableDefault) == cudaSuccess && function != nullptr)
    return function;
#endif
  (void)cudaGetLastError();
  return nullptr;
}

void pause() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

void count_up(void* counter) {
  static_cast<std::atomic<std::uint64_t>*>(counter)->fetch_add(1, std::memory_order_release);
}

}  // namespace

HandOff::HandOff(HandOffKind kind, cudaStream_t stream) : kind_(kind), stream_(stream) {
  if (kind == HandOffKind::flag && !use_flag()) {
    log(LogLevel::warning, "no stream memory operations or no pinned memory: the host polls events instead of a flag");
    kind_ = HandOffKind::event;
  }
}

HandOff::~HandOff() {
  if (flag_ != nullptr) (void)cudaFreeHost(flag_);
}

bool HandOff::use_flag() {
  write_value_ = driver_function("cuStreamWriteValue32");
  if (write_value_ == nullptr) return false;
  void *flag = nullptr, *on_device = nullptr;
  if (cudaHostAlloc(&flag, sizeof(std::uint32_t), cudaHostAllocMapped | cudaHostAllocPortable) != cudaSuccess) {
    (void)cudaGetLastError();
    return false;
  }
  flag_ = static_cast<std::uint32_t*>(flag);
  *flag_ = 0;
  TANDEM_CUDA_CHECK(cudaHostGetDevicePointer(&on_device, flag, 0));
  flag_on_device_ = reinterpret_cast<std::uint64_t>(on_device);
  return write_flag(0);  // drivers have the function, but not every device lets them
}

/// The stream writes the lower half of an epoch to the flag.
bool HandOff::write_flag(std::uint64_t epoch) const {
  const auto write = reinterpret_cast<decltype(&cuStreamWriteValue32)>(write_value_);
  return write(stream_, flag_on_device_, static_cast<std::uint32_t>(epoch), CU_STREAM_WRITE_VALUE_DEFAULT) ==
         CUDA_SUCCESS;
}

std::uint64_t HandOff::signal() {
  const std::uint64_t epoch = signalled() + 1;
  signalled_.store(epoch, std::memory_order_relaxed);  // before the stream can reach it
  switch (kind_) {
    case HandOffKind::flag:
      TANDEM_CHECK(write_flag(epoch), device_lost, "cuStreamWriteValue32 failed");
      break;
    case HandOffKind::host_call:
      TANDEM_CUDA_CHECK(cudaLaunchHostFunc(stream_, count_up, &called_));
      break;
    case HandOffKind::event: {
      const std::lock_guard lock(mutex_);
      if (idle_.empty()) idle_.emplace_back();
      PendingEvent pending{epoch, std::move(idle_.back())};
      idle_.pop_back();
      TANDEM_CUDA_CHECK(cudaEventRecord(pending.event.get(), stream_));
      pending_.push_back(std::move(pending));
      break;
    }
  }
  return epoch;
}

/// The flag has the lower half of an epoch that is at most the last one signalled.
std::uint64_t HandOff::reached_by_flag() const noexcept {
  const std::uint32_t low = std::atomic_ref<std::uint32_t>(*flag_).load(std::memory_order_acquire);
  const std::uint64_t last = signalled();
  return last - static_cast<std::uint32_t>(static_cast<std::uint32_t>(last) - low);
}

std::uint64_t HandOff::reached_by_events() {
  const std::lock_guard lock(mutex_);
  std::size_t done = 0;
  for (; done < pending_.size(); ++done) {
    const cudaError_t status = cudaEventQuery(pending_[done].event.get());
    if (status == cudaErrorNotReady) break;
    TANDEM_CUDA_CHECK(status);
    seen_ = pending_[done].epoch;
    idle_.push_back(std::move(pending_[done].event));
  }
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(done));
  return seen_;
}

std::uint64_t HandOff::reached() {
  switch (kind_) {
    case HandOffKind::flag:
      return reached_by_flag();
    case HandOffKind::host_call:
      return called_.load(std::memory_order_acquire);
    case HandOffKind::event:
      return reached_by_events();
  }
  return 0;
}

bool HandOff::wait(std::uint64_t epoch, std::chrono::milliseconds timeout) {
  if (reached() >= epoch) return true;
  const auto deadline = Clock::now() + timeout;
  for (;;) {
    for (int look = 0; look < kLooksBetweenQueries; ++look) {
      if (reached() >= epoch) return true;
      pause();
    }
    const cudaError_t status = cudaStreamQuery(stream_);
    if (status != cudaSuccess && status != cudaErrorNotReady) TANDEM_CUDA_CHECK(status);
    if (reached() >= epoch) return true;
    if (Clock::now() >= deadline) return false;
    std::this_thread::yield();
  }
}

}  // namespace tandem::gpu::cuda
