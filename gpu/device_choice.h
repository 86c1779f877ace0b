#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "cpu/kernels.h"
#include "gpu/device.h"
#include "numa/memory_ledger.h"
#include "numa/topology.h"

namespace tandem::gpu {

/// "flag", "host_call" or "event"; throws Error(invalid_argument) otherwise.
HandOffKind parse_hand_off(std::string_view text);

/// Throws Error(invalid_argument) unless `text` is "host", "cuda" or "cuda:N".
void validate_device(std::string_view text);

/// The device that `text` names: "host", or "cuda:N"; "cuda" is "cuda:0". All arguments must outlive it. Throws
/// Error(invalid_argument) for other texts and for an N that this machine has not, Error(unsupported) where there is no
/// CUDA device or this build has no code for any.
std::unique_ptr<Device> make_device(std::string_view text, const cpu::Kernels& kernels, const numa::Topology& topology,
                                    numa::MemoryLedger& ledger, const DeviceParams& params);

/// Defined by the CUDA tier, or by what takes its place in a build without one. Errors as above.
std::unique_ptr<Device> make_cuda_device(int ordinal, const DeviceParams& params);

}  // namespace tandem::gpu
