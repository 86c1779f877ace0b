#include "tools/probes/gpu/hand_offs.h"

#include <chrono>
#include <memory>

#include "gpu/cuda/hand_off.h"
#include "tools/probes/gpu/probes.h"
#include "tools/probes/gpu/stream_timer.h"

namespace tandem::probes {
namespace {

using gpu::HandOffKind;
using gpu::cuda::HandOff;

constexpr std::chrono::milliseconds kTimeout{10'000};
constexpr std::int64_t kLaunchesInARow = 256;
constexpr std::int64_t kWarmUps = 20;

double host_us(const std::function<void()>& call) {
  const auto begin = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
}

struct RoundTrip {
  Json description;
  std::function<void()> go;
  std::vector<double> us = {};
};

RoundTrip by_hand_off(HandOffKind kind, bool with_kernel, cudaStream_t stream) {
  const auto hand_off = std::make_shared<HandOff>(kind, stream);
  return {{{"hand_off", to_string(kind)}, {"kernel", with_kernel}, {"became", to_string(hand_off->kind())}},
          [hand_off, with_kernel, stream] {
            if (with_kernel) launch_empty(stream);
            hand_off->wait(hand_off->signal(), kTimeout);
          }};
}

RoundTrip by_synchronizing(bool with_kernel, cudaStream_t stream) {
  return {{{"hand_off", "cudaStreamSynchronize"}, {"kernel", with_kernel}, {"became", "cudaStreamSynchronize"}},
          [with_kernel, stream] {
            if (with_kernel) launch_empty(stream);
            TANDEM_CUDA_CHECK(cudaStreamSynchronize(stream));
          }};
}

}  // namespace

Json measure_launches(cudaStream_t stream, const GpuPlan& plan) {
  const StreamTimer timer(stream);
  std::vector<double> calls, each;
  for (std::int64_t i = 0; i < kWarmUps; ++i) launch_empty(stream);
  for (std::int64_t i = 0; i < plan.round_trips; ++i) {
    calls.push_back(host_us([stream] { launch_empty(stream); }));
    TANDEM_CUDA_CHECK(cudaStreamSynchronize(stream));
  }
  for (std::int64_t i = 0; i < plan.round_trips; i += kLaunchesInARow) {
    const double us = timer.us([stream] {
      for (std::int64_t launch = 0; launch < kLaunchesInARow; ++launch) launch_empty(stream);
    });
    each.push_back(us / static_cast<double>(kLaunchesInARow));
  }
  return {{"call_us", quartiles_of(calls)}, {"in_a_row", kLaunchesInARow}, {"each_us", quartiles_of(each)}};
}

Json measure_hand_offs(cudaStream_t stream, const GpuPlan& plan, const std::function<void()>& tick) {
  std::vector<RoundTrip> trips;
  for (const bool with_kernel : {false, true}) {
    for (const auto kind : {HandOffKind::flag, HandOffKind::host_call, HandOffKind::event})
      trips.push_back(by_hand_off(kind, with_kernel, stream));
    trips.push_back(by_synchronizing(with_kernel, stream));
  }
  for (std::int64_t i = -kWarmUps; i < plan.round_trips; ++i) {
    tick();
    for (RoundTrip& trip : trips) {
      const double us = host_us(trip.go);
      if (i >= 0) trip.us.push_back(us);
    }
  }
  Json result = Json::array();
  for (RoundTrip& trip : trips) {
    trip.description["us"] = quartiles_of(trip.us);
    result.push_back(trip.description);
  }
  return result;
}

}  // namespace tandem::probes
