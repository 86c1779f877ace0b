#include "capture.h"
#include "event.h"
#include "graph.h"
#include "kernel.h"
#include "machine.h"
#include "memory.h"
#include "stream.h"

namespace emulator {

void lose_device(int device, cudaError_t error) {
  cudaError_t working = cudaSuccess;
  sticky_error(device).compare_exchange_strong(working, error);  // the first error stays
  for (const auto& stream : streams_of(device)) stream->wake();
}

void reset(const Config& config) {
  if (config.num_devices < 0 || config.num_devices > kMaxDevices) {
    throw std::invalid_argument("emulator::reset: num_devices");
  }
  forget_plans();
  forget_captures();
  for (int device = 0; device < kMaxDevices; ++device) lose_device(device, cudaErrorUnknown);
  wait_for_streams(-1);
  wait_for_destroyed_streams();
  for (int device = 0; device < kMaxDevices; ++device) sticky_error(device) = cudaSuccess;
  current_device() = 0;
  cudaGetLastError();
  set_config(config);
  take_fault();
}

Live live() {
  return {.device_allocations = device_allocations(),
          .host_allocations = pinned_allocations(),
          .streams = num_streams(),
          .events = num_events(),
          .graphs = num_graphs()};
}

std::string check_leaks() {
  wait_for_destroyed_streams();
  const Live now = live();
  std::string text;
  const auto add = [&text](int count, const char* what) {
    if (count != 0) text += (text.empty() ? "alive: " : ", ") + std::to_string(count) + " " + what;
  };
  add(now.device_allocations, "device allocations");
  add(now.host_allocations, "pinned host allocations");
  add(now.streams, "streams");
  add(now.events, "events");
  add(now.graphs, "graphs");
  return text;
}

}  // namespace emulator
