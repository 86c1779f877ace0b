#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <string_view>
#include <thread>

#include "capture.h"
#include "cuda.h"
#include "cuda_runtime_api.h"
#include "memory.h"
#include "stream.h"

namespace emulator {
namespace {

struct EntryPoint {
  std::string_view symbol;
  void* function;
};

const std::array kEntryPoints{
    EntryPoint{"cuStreamWaitValue32", reinterpret_cast<void*>(&cuStreamWaitValue32)},
    EntryPoint{"cuStreamWriteValue32", reinterpret_cast<void*>(&cuStreamWriteValue32)},
    EntryPoint{"cuGetErrorName", reinterpret_cast<void*>(&cuGetErrorName)},
    EntryPoint{"cuGetErrorString", reinterpret_cast<void*>(&cuGetErrorString)},
};

bool holds(std::uint32_t found, std::uint32_t value, unsigned flags) {
  switch (flags) {
    case CU_STREAM_WAIT_VALUE_GEQ:
      return std::bit_cast<std::int32_t>(found - value) >= 0;
    case CU_STREAM_WAIT_VALUE_EQ:
      return found == value;
    case CU_STREAM_WAIT_VALUE_AND:
      return (found & value) != 0;
    default:
      return ~(found | value) != 0;
  }
}

std::atomic_ref<std::uint32_t> checked_word(CUdeviceptr address) {
  auto* const word = reinterpret_cast<std::uint32_t*>(address);
  require_mapped(word, sizeof(*word), "the word");
  if (address % sizeof(*word) != 0) throw Refusal{cudaErrorInvalidValue, "the address is not a multiple of 4"};
  return std::atomic_ref(*word);
}

/// Polls, ever less often: up to 50 us late.
void wait_for_value(std::atomic_ref<std::uint32_t> word, std::uint32_t value, unsigned flags, int device) {
  for (int tried = 0; !holds(word.load(std::memory_order_acquire), value, flags); ++tried) {
    if (sticky_error(device) != cudaSuccess) return;
    if (tried < 100) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }
}

/// Driver calls leave cudaGetLastError() as it is.
template <class Body>
CUresult driver_call(const char* name, Body body) {
  const cudaError_t error = before_call(name);
  return static_cast<CUresult>(error == cudaSuccess ? guarded(name, body) : error);
}

}  // namespace
}  // namespace emulator

using namespace emulator;

CUresult cuStreamWaitValue32(CUstream handle, CUdeviceptr address, cuuint32_t value, unsigned int flags) {
  return driver_call("cuStreamWaitValue32", [&] {
    const auto stream = working_stream(handle);
    if (flags > CU_STREAM_WAIT_VALUE_NOR) throw Refusal{cudaErrorInvalidValue, "flags"};
    const auto word = checked_word(address);
    submit(stream, [word, value, flags, device = stream->device()] { wait_for_value(word, value, flags, device); });
    return cudaSuccess;
  });
}

CUresult cuStreamWriteValue32(CUstream handle, CUdeviceptr address, cuuint32_t value, unsigned int flags) {
  return driver_call("cuStreamWriteValue32", [&] {
    const auto stream = working_stream(handle);
    if (flags > CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER) throw Refusal{cudaErrorInvalidValue, "flags"};
    submit(stream, [word = checked_word(address), value] { word.store(value, std::memory_order_release); });
    return cudaSuccess;
  });
}

CUresult cuGetErrorName(CUresult error, const char** name) {
  *name = cudaGetErrorName(static_cast<cudaError_t>(error));
  return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  *text = cudaGetErrorString(static_cast<cudaError_t>(error));
  return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPoint(const char* symbol, void** function, unsigned long long,
                                    cudaDriverEntryPointQueryResult* result) {
  return api_call("cudaGetDriverEntryPoint", [&] {
    *function = nullptr;
    for (const EntryPoint& entry : kEntryPoints) {
      if (entry.symbol == symbol) *function = entry.function;
    }
    if (result != nullptr) {
      *result = *function == nullptr ? cudaDriverEntryPointSymbolNotFound : cudaDriverEntryPointSuccess;
      return cudaSuccess;
    }
    return *function == nullptr ? cudaErrorSymbolNotFound : cudaSuccess;
  });
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned int,
                                             unsigned long long flags, cudaDriverEntryPointQueryResult* result) {
  return cudaGetDriverEntryPoint(symbol, function, flags, result);
}
