#include <cstring>
#include <map>
#include <memory>

#include "cuda_runtime.h"
#include "guarded_memory.h"
#include "kernel.h"

// Streams that do their work at once.

struct CUstream_st {};

namespace emulator {
namespace {
std::map<void*, GuardedMemory>& allocations() {
  static std::map<void*, GuardedMemory> all;
  return all;
}
std::string& fault() {
  static std::string text;
  return text;
}
Config config_;
}  // namespace

cudaError_t launch(const cudaLaunchConfig_t& config, const void*, std::function<void()> thread) {
  try {
    run_grid({config.gridDim, config.blockDim, config.dynamicSmemBytes}, config_.order, config_.seed, thread);
  } catch (const Fault& found) {
    fault() = found.what();
    return cudaErrorIllegalAddress;
  }
  return cudaSuccess;
}
void reset(const Config& config) { config_ = config; }
std::string last_fault() { return fault(); }
std::string take_fault() { return std::exchange(fault(), ""); }
}  // namespace emulator

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "error"; }
cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  emulator::GuardedMemory memory(bytes);
  *pointer = memory.data();
  emulator::allocations().emplace(*pointer, std::move(memory));
  return cudaSuccess;
}
cudaError_t cudaFree(void* pointer) {
  emulator::allocations().erase(pointer);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned int) { return cudaMalloc(pointer, bytes); }
cudaError_t cudaFreeHost(void* pointer) { return cudaFree(pointer); }
cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned int) {
  *device = host;
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t bytes, cudaStream_t) {
  std::memset(pointer, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
