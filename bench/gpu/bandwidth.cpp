#include "bench/gpu/bandwidth.h"

#include <algorithm>
#include <functional>

#include "bench/gpu/probes.h"
#include "bench/gpu/stream_timer.h"
#include "gpu/cuda/memory.h"

namespace tandem::bench {
namespace {

using gpu::cuda::DeviceMemory;

void copy(void* to, const void* from, std::int64_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  TANDEM_CUDA_CHECK(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), kind, stream));
}

/// GB/s of each repetition of two operations that take turns.
struct Turns {
  std::vector<double> first, second;
};
Turns take_turns(const StreamTimer& timer, std::int64_t repetitions, double bytes_first,
                 const std::function<void()>& first, double bytes_second, const std::function<void()>& second) {
  Turns turns;
  (void)timer.us(first);
  (void)timer.us(second);
  for (std::int64_t i = 0; i < repetitions; ++i) {
    turns.first.push_back(gb_per_s(bytes_first, timer.us(first)));
    turns.second.push_back(gb_per_s(bytes_second, timer.us(second)));
  }
  return turns;
}

void measure_device(const GpuTarget& target, const GpuOptions& options, const StreamTimer& timer, Json& result) {
  const std::int64_t bytes = options.device_mib << 20;
  const DeviceMemory from(bytes), to(bytes), sink(sizeof(std::uint32_t));
  TANDEM_CUDA_CHECK(cudaMemsetAsync(from.data(), 0, static_cast<std::size_t>(bytes), target.stream));
  const auto size = static_cast<double>(bytes);
  const Turns turns = take_turns(
      timer, options.repetitions, 2 * size,
      [&] { copy(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, target.stream); }, size,
      [&] {
        launch_read(from.data(), bytes, target.blocks, reinterpret_cast<std::uint32_t*>(sink.data()), target.stream);
      });
  result["copy"] = {{"bytes", bytes}, {"gb_per_s", spread_of(turns.first)}};
  result["read"] = {{"bytes", bytes}, {"gb_per_s", spread_of(turns.second)}};
}

void measure_pinned(const GpuTarget& target, const GpuOptions& options, const StreamTimer& timer, Json& result) {
  const std::int64_t most = options.pinned_mib << 20;
  const DeviceMemory on_device(most);
  const gpu::cuda::StagingMemory on_host(most);
  std::fill_n(on_host.data(), most, std::byte{0});
  TANDEM_CUDA_CHECK(cudaMemsetAsync(on_device.data(), 0, static_cast<std::size_t>(most), target.stream));
  result["pinned"] = on_host.pinned();
  for (std::int64_t bytes = 4096; bytes <= most; bytes = bytes < most ? std::min(bytes * 16, most) : most + 1) {
    const auto size = static_cast<double>(bytes);
    const Turns turns = take_turns(
        timer, options.repetitions, size,
        [&] { copy(on_device.data(), on_host.data(), bytes, cudaMemcpyHostToDevice, target.stream); }, size,
        [&] { copy(on_host.data(), on_device.data(), bytes, cudaMemcpyDeviceToHost, target.stream); });
    result["to_device"].push_back({{"bytes", bytes}, {"gb_per_s", spread_of(turns.first)}});
    result["to_host"].push_back({{"bytes", bytes}, {"gb_per_s", spread_of(turns.second)}});
  }
}

}  // namespace

Json measure_bandwidth(const GpuTarget& target, const GpuOptions& options) {
  Json result;
  const StreamTimer timer(target.stream);
  measure_device(target, options, timer, result);
  measure_pinned(target, options, timer, result);
  return result;
}

double best_bandwidth(const Json& bandwidth) {
  const auto median = [&](const char* name) { return bandwidth.at(name).at("gb_per_s").at("median").get<double>(); };
  return std::max(median("copy"), median("read"));
}

}  // namespace tandem::bench
