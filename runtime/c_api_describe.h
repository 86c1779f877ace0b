#pragma once

#include <string>

#include "runtime/runtime.h"

namespace tandem {

/// What td_describe() writes: the resolved configuration, machine, ISA, device and memory as JSON.
std::string describe(const Runtime& runtime);

}  // namespace tandem
