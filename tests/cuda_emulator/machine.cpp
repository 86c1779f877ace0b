#include "machine.h"

#include <array>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace emulator {
namespace {

struct Plan {
  cudaError_t error;
  int after;
};

struct State {
  std::mutex mutex;
  Config config;
  std::string fault;
  std::map<std::string, std::vector<Plan>> plans;
};

State& state() {
  static State& machine = *new State;  // streams may outlive static objects
  return machine;
}

thread_local cudaError_t last_error = cudaSuccess;

}  // namespace

Config config() {
  const std::lock_guard lock(state().mutex);
  return state().config;
}

void set_config(const Config& config) {
  const std::lock_guard lock(state().mutex);
  state().config = config;
}

void record_fault(const std::string& text) {
  const std::lock_guard lock(state().mutex);
  if (state().fault.empty()) state().fault = text;
}

std::string last_fault() {
  const std::lock_guard lock(state().mutex);
  return state().fault;
}

std::string take_fault() {
  const std::lock_guard lock(state().mutex);
  return std::exchange(state().fault, {});
}

void fail_next(const std::string& name, cudaError_t error, int after) {
  const std::lock_guard lock(state().mutex);
  state().plans[name].push_back({error, after});
}

cudaError_t planned_failure(const std::string& name) {
  const std::lock_guard lock(state().mutex);
  const auto found = state().plans.find(name);
  if (found == state().plans.end()) return cudaSuccess;
  cudaError_t error = cudaSuccess;
  std::vector<Plan>& plans = found->second;
  for (auto plan = plans.begin(); plan != plans.end();) {
    const bool now = plan->after-- == 0;
    if (now) error = plan->error;
    plan = now ? plans.erase(plan) : plan + 1;
  }
  return error;
}

void forget_plans() {
  const std::lock_guard lock(state().mutex);
  state().plans.clear();
}

int& current_device() {
  thread_local int device = 0;
  return device;
}

std::atomic<cudaError_t>& sticky_error(int device) {
  static std::array<std::atomic<cudaError_t>, kMaxDevices> errors{};
  return errors.at(static_cast<std::size_t>(device));
}

bool& in_host_function() {
  thread_local bool inside = false;
  return inside;
}

cudaError_t before_call(const char* name) {
  if (in_host_function()) {
    record_fault(std::string(name) + ": called from a function that a stream runs");
    return cudaErrorNotPermitted;
  }
  const Config now = config();
  if (now.driver_version < CUDART_VERSION / 1000 * 1000) return cudaErrorInsufficientDriver;
  if (now.num_devices == 0) return cudaErrorNoDevice;
  return planned_failure(name);
}

cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

}  // namespace emulator

cudaError_t cudaGetLastError() {
  using namespace emulator;
  return sticky_error(current_device()) != cudaSuccess ? last_error : std::exchange(last_error, cudaSuccess);
}
cudaError_t cudaPeekAtLastError() { return emulator::last_error; }
