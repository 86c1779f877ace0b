#pragma once
#include <atomic>
#include <new>
#include <string>

#include "cuda_emulator/emulator.h"
#include "cuda_emulator/thread.h"

namespace emulator {

constexpr int kMaxDevices = 8;

/// A call returns `code`; where the caller has broken a rule of CUDA, the text becomes a fault, too.
struct Refusal {
  cudaError_t code;
  std::string fault;
};
/// A kernel or another operation takes the device with it.
struct DeviceFailure {
  cudaError_t code;
};

/// The configuration in force. Thread-safe.
Config config();
void set_config(const Config& config);

/// Keeps the text if it is the first one.
void record_fault(const std::string& text);
/// The failure that fail_next() has planned for this use of `name`; cudaSuccess if there is none.
cudaError_t planned_failure(const std::string& name);
void forget_plans();

/// The device that the calling thread has chosen.
int& current_device();
/// Why all calls for a device fail; cudaSuccess while it works.
std::atomic<cudaError_t>& sticky_error(int device);

/// What every call does first: planned failures, missing devices, calls out of host functions. cudaSuccess: go on.
cudaError_t before_call(const char* name);
/// What every call does last.
cudaError_t remember(cudaError_t error);
/// The calling thread is in a function that cudaLaunchHostFunc runs.
bool& in_host_function();

/// `body` returns a cudaError_t or throws Refusal.
template <class Body>
cudaError_t guarded(const char* name, Body body) {
  try {
    return body();
  } catch (const Refusal& refusal) {
    if (!refusal.fault.empty()) record_fault(std::string(name) + ": " + refusal.fault);
    return refusal.code;
  } catch (const std::bad_alloc&) {
    return cudaErrorMemoryAllocation;
  }
}

/// A function of the API. Does nothing where the current device is lost.
template <class Body>
cudaError_t api_call(const char* name, Body body) {
  cudaError_t error = before_call(name);
  if (error == cudaSuccess) error = sticky_error(current_device());
  if (error == cudaSuccess) error = guarded(name, body);
  return remember(error);
}

/// A function of the API that gives something back. It does so for lost devices, too, but returns their error.
template <class Body>
cudaError_t release_call(const char* name, Body body) {
  cudaError_t error = before_call(name);
  if (error == cudaSuccess) error = guarded(name, body);
  if (error == cudaSuccess) error = sticky_error(current_device());
  return remember(error);
}

}  // namespace emulator
