#pragma once
namespace emulator {
int num_graphs();  ///< executable ones as well
}  // namespace emulator
