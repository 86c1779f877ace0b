#pragma once

#include "ggml-backend.h"
#include "tools/ggml/settings.h"

namespace tandem::ggml {

/// The registration of one device, TANDEM, of type ACCEL: it works on the CPU's buffers, and the scheduler prefers it
/// to the CPU backend for what it supports. Call once; the settings hold for the process.
ggml_backend_reg_t registration(const Settings& settings);

}  // namespace tandem::ggml
