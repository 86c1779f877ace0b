#include "gpu/device_choice.h"

#include <charconv>

#include "gpu/host/host_device.h"
#include "runtime/base/error.h"

namespace tandem::gpu {
namespace {

constexpr std::string_view kCuda = "cuda";
constexpr int kHost = -1;

/// The ordinal of a CUDA device, or kHost.
int ordinal_of(std::string_view text) {
  if (text == "host") return kHost;
  if (text == kCuda) return 0;
  int ordinal = -1;
  if (text.substr(0, kCuda.size() + 1) == "cuda:") {
    const std::string_view number = text.substr(kCuda.size() + 1);
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), ordinal);
    if (error != std::errc() || end != number.data() + number.size()) ordinal = -1;
  }
  TANDEM_CHECK(ordinal >= 0, invalid_argument, "device is \"", text, "\"; allowed: host, cuda, cuda:0, cuda:1, ..");
  return ordinal;
}

}  // namespace

const char* to_string(HandOffKind kind) noexcept {
  return kind == HandOffKind::flag ? "flag" : kind == HandOffKind::host_call ? "host_call" : "event";
}

HandOffKind parse_hand_off(std::string_view text) {
  for (const HandOffKind kind : {HandOffKind::flag, HandOffKind::host_call, HandOffKind::event}) {
    if (text == to_string(kind)) return kind;
  }
  fail(ErrorCode::invalid_argument, "hand_off is \"", text, "\"; allowed: flag, host_call, event");
}

void validate_device(std::string_view text) { ordinal_of(text); }

std::unique_ptr<Device> make_device(std::string_view text, const cpu::Kernels& kernels, const numa::Topology& topology,
                                    numa::MemoryLedger& ledger, const DeviceParams& params) {
  const int ordinal = ordinal_of(text);
  if (ordinal == kHost) return std::make_unique<HostDevice>(kernels, topology, ledger);
  return make_cuda_device(ordinal, params);
}

}  // namespace tandem::gpu
