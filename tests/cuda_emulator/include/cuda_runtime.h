#pragma once
// CUDA's C++ interface: the runtime API, the language of kernels, and how to launch them.
#include "cuda_emulator/atomics.h"
#include "cuda_emulator/device_functions.h"
#include "cuda_emulator/launch.h"
#include "cuda_emulator/thread.h"
#include "cuda_emulator/warp.h"
#include "cuda_runtime_api.h"
