#pragma once

#include <chrono>
#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "runtime/base/timeline.h"

namespace tandem {

/// Spans of one thread, or of the device.
struct TimelineTrack {
  std::string name;
  std::vector<Span> spans;
};

/// Writes Chrome's trace event format: a JSON array of complete events ("X", times in microseconds from `started` on,
/// what a span is about as args), sorted so that a span comes before those within it, and of metadata ("M") that names
/// the process and the threads and says in `tandem_timeline` how many spans were dropped, and when ts 0 was. Thread t
/// is tracks[t - 1]; those without spans are left out.
///
/// Source: "Trace Event Format", https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
void write_timeline(std::ostream& file, std::vector<TimelineTrack> tracks, Span::Clock::time_point started,
                    std::uint64_t dropped);

}  // namespace tandem
