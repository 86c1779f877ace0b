#pragma once
#include <chrono>
#include <cstdint>
#include <memory>

#include "capture.h"

namespace emulator {

/// A place in a stream.
struct Record {
  std::shared_ptr<Stream> stream;
  std::uint64_t number = 0;
  std::chrono::steady_clock::time_point time;  ///< written when the place is reached
};

int num_events();

}  // namespace emulator

/// Guarded by capture_mutex().
struct CUevent_st {
  int device = 0;
  unsigned flags = 0;
  std::shared_ptr<emulator::Record> record;    ///< of the last cudaEventRecord; none before the first
  std::shared_ptr<emulator::Capture> capture;  ///< that the last one belongs to
  emulator::Clock after;                       ///< then: what comes before it
};
