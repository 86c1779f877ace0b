#pragma once

#include "runtime/config.h"
#include "tandem/tandem.h"

namespace tandem {

// What the C ABI's structs configure. Every function throws Error(invalid_argument) or Error(unsupported), naming the
// field, its value and what is allowed; ranges that validate(Config) knows are left to it.

/// Of tensors and of the window's rows: `name` is the field.
DType dtype_of(const char* name, std::int32_t value);

lsh::SelectorParams selector_of(const td_selector* given);

Config config_of(const td_config* given);

}  // namespace tandem
