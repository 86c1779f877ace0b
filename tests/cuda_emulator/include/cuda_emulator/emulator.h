#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "cuda_runtime_api.h"

// What tests ask of the emulated machine. Thread-safe unless noted.

namespace emulator {

enum class Order { forward, reverse, random };

/// When a stream works off what was put into it.
enum class Progress {
  eager,  ///< at once, beside the host
  late,   ///< when somebody waits for it or asks for its state, or after late_after_ms
};

struct Config {
  Order order = Order::forward;  ///< of the blocks of a grid and the threads of a block
  std::uint64_t seed = 1;        ///< of random orders and delays
  Progress progress = Progress::eager;
  int late_after_ms = 20;     ///< CUDA promises progress to those who poll memory, too
  int max_delay_us = 0;       ///< before each operation a stream is busy for a random time up to this one
  int spin_limit_ms = 60000;  ///< a block whose threads only spin faults after this time
  int num_devices = 2;        ///< 0: calls return cudaErrorNoDevice
  int compute_capability_major = 9;
  int driver_version = 12090;                       ///< below CUDART_VERSION: cudaErrorInsufficientDriver
  std::size_t device_bytes = std::size_t{1} << 30;  ///< cudaMalloc fails where a device's allocations exceed it
};

/// A fresh machine: drops what is in the streams, forgets faults, planned failures, captures and lost devices, and
/// takes `config` from here on. What is allocated stays, and the calling thread uses device 0.
void reset(const Config& config = {});

/// Text of the first fault since reset() or take_fault(); empty if there is none.
std::string last_fault();
/// last_fault(), which is then forgotten.
std::string take_fault();

/// The call `after` + 1 of `name` from now on fails with `error`. `name` is a function of the API, as "cudaMalloc", or
/// "kernel": that kernel takes the device with it when its turn comes.
void fail_next(const std::string& name, cudaError_t error, int after = 0);
/// All calls from now on return `error`, as after a fault in a kernel; what is in the streams is dropped.
void lose_device(int device, cudaError_t error);

/// What has been made and not yet destroyed.
struct Live {
  int device_allocations = 0;
  int host_allocations = 0;  ///< and registrations
  int streams = 0;
  int events = 0;
  int graphs = 0;  ///< and executable ones
};
Live live();
/// Empty, or one sentence on what is alive. Waits until destroyed streams have ended.
std::string check_leaks();

/// Switches between fibers so far, kernels so far.
struct Counters {
  std::uint64_t fiber_switches = 0;
  std::uint64_t kernels = 0;
};
Counters counters();

}  // namespace emulator
