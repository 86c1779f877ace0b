#pragma once

#include "cpu/key_coding.h"

namespace tandem::gpu {
class Device;
}

namespace tandem {

/// What codes keys for the indexes of a runtime: its device, or nothing where that is the host. Where the device has no
/// memory for it, which is logged once in the life of the process, the caller does it. `device` must outlive it.
cpu::KeyCoder key_coder_of(gpu::Device& device);

}  // namespace tandem
