#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/base/profiler_range.h"

namespace tandem {

/// What a span of a timeline is about; -1 where it does not apply.
struct SpanSubject {
  std::int64_t call = -1;  ///< number of the call of the runtime, from 1
  std::int64_t sequence = -1;
  std::int64_t layer = -1;
  std::int64_t kv_head = -1;
  std::int64_t position = -1;  ///< of the first query
  std::int64_t rows = -1;
  std::int64_t bytes = -1;
};

struct Span {
  using Clock = std::chrono::steady_clock;
  const char* name;  ///< outlives the timeline
  Clock::time_point begin, end;
  SpanSubject subject;
};

/// The latest spans of one thread. Its mutex is the recording thread's but for the start and the end of a timeline.
struct Track {
  std::mutex mutex;
  std::uint64_t session = 0;  ///< 0: takes nothing
  std::vector<Span> spans;    ///< a ring
  std::uint64_t recorded = 0;
};

/// What the threads of a runtime and its device do, span by span, from start() to stop(), as a file that Perfetto and
/// chrome://tracing show.
///
/// Costs one branch a span where it is off. Its memory is taken by start(): each thread has a ring and keeps its latest
/// spans; those that were overwritten, or came from more threads than there are rings, are counted in the file.
/// Thread-safe.
class Timeline {
 public:
  static constexpr std::int64_t kDefaultSpans = std::int64_t{1} << 19;  ///< about 40 MB
  static constexpr std::int64_t kLeastSpans = 1024, kMostSpans = std::int64_t{1} << 28;
  static constexpr int kCallers = 7;  ///< threads beside the workers that are given a ring

  explicit Timeline(int num_workers);
  /// A timeline that was not stopped is lost.
  ~Timeline();
  Timeline(const Timeline&) = delete;
  Timeline& operator=(const Timeline&) = delete;

  /// Room for `max_spans` in all, 0: kDefaultSpans. Throws Error(invalid_argument), Error(invalid_state) when one is
  /// recorded already, Error(io) naming the path when nothing can be written there.
  void start(const std::string& path, std::int64_t max_spans);
  /// Writes the file, whole or not at all. Spans that have not ended are not in it. `device` names the device's track.
  /// Throws Error(invalid_state) when none was started, Error(io) naming the path; it is off then, too.
  void stop(const std::string& device);

  [[nodiscard]] bool is_on() const noexcept { return session_.load(std::memory_order_relaxed) != 0; }
  /// On the calling thread's track. Allocates nothing.
  void record(const Span& span) noexcept;
  void record_of_device(const Span& span) noexcept;

 private:
  Track* track_of_this_thread(std::uint64_t session) noexcept;
  void add(Track& track, std::uint64_t session, const Span& span) noexcept;

  std::atomic<std::uint64_t> session_ = 0;   ///< 0: off; no two of a process are the same
  std::atomic<std::uint64_t> homeless_ = 0;  ///< spans of threads without a track
  std::mutex mutex_;                         ///< of what follows
  std::filesystem::path path_, temporary_;
  Span::Clock::time_point started_;
  std::vector<std::unique_ptr<Track>> tracks_;  ///< of threads, then the device's
  std::vector<std::uint64_t> owners_;           ///< of the tracks: numbers of threads, as they came
};

/// From its construction to its end, on this thread; nothing while the timeline is off, but for a profiler's range.
class TimelineSpan {
 public:
  TimelineSpan(Timeline& timeline, const char* name, const SpanSubject& about)
      : subject(about), range_(name), timeline_(timeline.is_on() ? &timeline : nullptr), name_(name) {
    if (timeline_ != nullptr) begin_ = Span::Clock::now();
  }
  ~TimelineSpan() {
    if (timeline_ != nullptr) timeline_->record({name_, begin_, Span::Clock::now(), subject});
  }
  TimelineSpan(const TimelineSpan&) = delete;
  TimelineSpan& operator=(const TimelineSpan&) = delete;

  SpanSubject subject;  ///< may be filled in until the end

 private:
  ProfilerRange range_;
  Timeline* timeline_;
  const char* name_;
  Span::Clock::time_point begin_;
};

}  // namespace tandem
