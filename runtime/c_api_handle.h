#pragma once

#include "runtime/begun_calls.h"
#include "runtime/runtime.h"
#include "tandem/tandem.h"

/// What the C ABI's handle points to. Tests make one on a device of their own.
struct td_rt {
  tandem::Runtime runtime;
  tandem::BegunCalls begun = {};  ///< ends first
};
