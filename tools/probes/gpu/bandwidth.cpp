#include "tools/probes/gpu/bandwidth.h"

#include <algorithm>
#include <cstddef>

#include "gpu/cuda/memory.h"
#include "tools/probes/gpu/probes.h"
#include "tools/probes/gpu/stream_timer.h"

namespace tandem::probes {
namespace {

using gpu::cuda::DeviceMemory;

void copy(void* to, const void* from, std::int64_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  TANDEM_CUDA_CHECK(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), kind, stream));
}

/// GB/s of each repetition of two operations that take turns.
struct Turns {
  std::vector<double> first, second;
};

class Bandwidths {
 public:
  Bandwidths(cudaStream_t stream, const GpuPlan& plan, const std::function<void()>& tick)
      : stream_(stream), plan_(plan), tick_(tick), timer_(stream) {}

  void measure_device(int blocks, Json& result) const {
    const std::int64_t bytes = plan_.device_bytes;
    const DeviceMemory from(bytes), to(bytes), sink(sizeof(std::uint32_t));
    TANDEM_CUDA_CHECK(cudaMemsetAsync(from.data(), 0, static_cast<std::size_t>(bytes), stream_));
    const auto size = static_cast<double>(bytes);
    const Turns turns = take_turns(
        2 * size, [&] { copy(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, stream_); }, size,
        [&] { launch_read(from.data(), bytes, blocks, reinterpret_cast<std::uint32_t*>(sink.data()), stream_); });
    result["copy"] = {{"bytes", bytes}, {"gb_per_s", quartiles_of(turns.first)}};
    result["read"] = {{"bytes", bytes}, {"gb_per_s", quartiles_of(turns.second)}};
  }

  void measure_link(Json& result) const {
    const std::int64_t most = plan_.pinned_bytes;
    const DeviceMemory on_device(most);
    TANDEM_CUDA_CHECK(cudaMemsetAsync(on_device.data(), 0, static_cast<std::size_t>(most), stream_));
    {
      const gpu::cuda::StagingMemory on_host(most);
      result["pinned"] = on_host.pinned();
      std::fill_n(on_host.data(), most, std::byte{0});
      for (std::int64_t bytes = 4096; bytes <= most; bytes = bytes < most ? std::min(bytes * 16, most) : most + 1)
        measure_copies(on_device.data(), on_host.data(), bytes, "", result);
    }
    std::vector<std::byte> pageable(static_cast<std::size_t>(most));
    measure_copies(on_device.data(), pageable.data(), most, "pageable_", result);
  }

 private:
  Turns take_turns(double bytes_first, const std::function<void()>& first, double bytes_second,
                   const std::function<void()>& second) const {
    Turns turns;
    (void)timer_.us(first);
    (void)timer_.us(second);
    for (std::int64_t i = 0; i < plan_.repetitions; ++i) {
      tick_();
      turns.first.push_back(gb_per_s(bytes_first, timer_.us(first)));
      turns.second.push_back(gb_per_s(bytes_second, timer_.us(second)));
    }
    return turns;
  }

  void measure_copies(std::byte* device, std::byte* host, std::int64_t bytes, const std::string& prefix,
                      Json& result) const {
    const auto size = static_cast<double>(bytes);
    const Turns turns = take_turns(
        size, [&] { copy(device, host, bytes, cudaMemcpyHostToDevice, stream_); }, size,
        [&] { copy(host, device, bytes, cudaMemcpyDeviceToHost, stream_); });
    result[prefix + "to_device"].push_back({{"bytes", bytes}, {"gb_per_s", quartiles_of(turns.first)}});
    result[prefix + "to_host"].push_back({{"bytes", bytes}, {"gb_per_s", quartiles_of(turns.second)}});
  }

  cudaStream_t stream_;
  const GpuPlan& plan_;
  const std::function<void()>& tick_;
  const StreamTimer timer_;
};

}  // namespace

Json measure_bandwidth(cudaStream_t stream, int blocks, const GpuPlan& plan, const std::function<void()>& tick) {
  Json result;
  const Bandwidths bandwidths(stream, plan, tick);
  bandwidths.measure_device(blocks, result);
  bandwidths.measure_link(result);
  return result;
}

double best_bandwidth(const Json& bandwidth) {
  const auto median = [&](const char* name) { return bandwidth.at(name).at("gb_per_s").at("median").get<double>(); };
  return std::max(median("copy"), median("read"));
}

}  // namespace tandem::probes
