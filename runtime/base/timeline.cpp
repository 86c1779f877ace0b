#include "runtime/base/timeline.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>
#include <utility>

#include <unistd.h>

#include "runtime/base/error.h"
#include "runtime/base/timeline_file.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;

/// 1, 2, ..; unlike the system's ids never used again.
std::uint64_t number_of_this_thread() noexcept {
  static std::atomic<std::uint64_t> last = 0;
  thread_local const std::uint64_t number = ++last;
  return number;
}

std::uint64_t next_session() noexcept {
  static std::atomic<std::uint64_t> last = 0;
  return ++last;
}

[[noreturn]] void fail_to_write(const fs::path& path, const std::string& reason) {
  fail(ErrorCode::io, "cannot write the timeline ", path.string(), ": ", reason);
}

/// A file beside `path` that no other process writes. Finds out whether any can be.
fs::path temporary_beside(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) fail_to_write(path, "it is a folder");
  fs::path temporary = path;
  temporary += concat(".tmp-", getpid());
  errno = 0;
  if (!std::ofstream(temporary, std::ios::binary)) fail_to_write(path, std::strerror(errno));
  return temporary;
}

/// Threads that call the runtime have spans that are named after its functions.
bool is_caller(const std::vector<Span>& spans) {
  return std::any_of(spans.begin(), spans.end(),
                     [](const Span& span) { return std::string_view(span.name).starts_with("td_"); });
}

/// Takes what a track holds, from `started` on. Returns how many spans it has overwritten.
std::uint64_t take(Track& track, Span::Clock::time_point started, std::vector<Span>& spans) {
  const std::lock_guard lock(track.mutex);
  track.session = 0;
  spans = std::move(track.spans);
  track.spans = {};
  const std::uint64_t room = spans.size();
  spans.resize(std::min(track.recorded, room));
  std::erase_if(spans, [started](const Span& span) { return span.begin < started; });
  return track.recorded > room ? track.recorded - room : 0;
}

}  // namespace

Timeline::Timeline(int num_workers) {
  for (int i = 0; i < num_workers + kCallers + 1; ++i) tracks_.push_back(std::make_unique<Track>());
  owners_.reserve(tracks_.size());
}

Timeline::~Timeline() {
  std::error_code ignored;
  if (!temporary_.empty()) fs::remove(temporary_, ignored);
}

void Timeline::start(const std::string& path, std::int64_t max_spans) {
  const std::lock_guard lock(mutex_);
  TANDEM_CHECK(!path.empty(), invalid_argument, "path is empty; expected: the name of a file");
  TANDEM_CHECK(max_spans == 0 || (max_spans >= kLeastSpans && max_spans <= kMostSpans), invalid_argument,
               "max_spans is ", max_spans, "; allowed: ", kLeastSpans, " to ", kMostSpans, ", or 0 for ",
               kDefaultSpans);
  TANDEM_CHECK(!is_on(), invalid_state, "a timeline is being recorded to ", path_.string(), "; stop it first");
  const std::size_t room = static_cast<std::size_t>(max_spans == 0 ? kDefaultSpans : max_spans) / tracks_.size() + 1;
  std::vector<std::vector<Span>> rings(tracks_.size());
  for (auto& ring : rings) ring.resize(room);  // before anything changes
  temporary_ = temporary_beside(path);
  path_ = path;
  started_ = Span::Clock::now();
  owners_.clear();
  homeless_ = 0;
  const std::uint64_t session = next_session();
  for (std::size_t t = 0; t < tracks_.size(); ++t) {
    const std::lock_guard track_lock(tracks_[t]->mutex);
    tracks_[t]->session = session;
    tracks_[t]->spans = std::move(rings[t]);
    tracks_[t]->recorded = 0;
  }
  session_.store(session, std::memory_order_release);
}

void Timeline::stop(const std::string& device) {
  std::unique_lock lock(mutex_);
  TANDEM_CHECK(is_on(), invalid_state, "no timeline is being recorded");
  session_.store(0, std::memory_order_relaxed);
  std::uint64_t dropped = homeless_;
  std::vector<TimelineTrack> tracks(tracks_.size());
  int callers = 0, workers = 0;
  for (std::size_t t = 0; t < tracks_.size(); ++t) {
    dropped += take(*tracks_[t], started_, tracks[t].spans);
    if (t + 1 == tracks_.size()) {
      tracks[t].name = device;
    } else if (is_caller(tracks[t].spans)) {
      tracks[t].name = concat("caller ", ++callers);
    } else {
      tracks[t].name = concat("worker ", ++workers);
    }
  }
  const fs::path temporary = std::exchange(temporary_, {}), path = path_;
  const auto started = started_;
  lock.unlock();  // threads that take their first track do not wait for the file
  errno = 0;
  std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
  write_timeline(file, std::move(tracks), started, dropped);
  file.close();
  std::error_code error(errno, std::generic_category());
  const bool written = static_cast<bool>(file);
  if (written) fs::rename(temporary, path, error);
  if (written && !error) return;
  std::error_code ignored;
  fs::remove(temporary, ignored);
  fail_to_write(path, error.message());
}

Track* Timeline::track_of_this_thread(std::uint64_t session) noexcept {
  struct Known {
    std::uint64_t session = 0;
    Track* track = nullptr;
  };
  thread_local Known known;
  if (known.session == session) return known.track;
  const std::uint64_t self = number_of_this_thread();
  const std::lock_guard lock(mutex_);
  auto owner = std::find(owners_.begin(), owners_.end(), self);
  if (owner == owners_.end() && owners_.size() + 1 < tracks_.size()) {
    owners_.push_back(self);  // within what was reserved
    owner = owners_.end() - 1;
  }
  Track* track = owner == owners_.end() ? nullptr : tracks_[static_cast<std::size_t>(owner - owners_.begin())].get();
  known = {session, track};
  return track;
}

void Timeline::add(Track& track, std::uint64_t session, const Span& span) noexcept {
  const std::lock_guard lock(track.mutex);
  if (track.session == session) track.spans[track.recorded++ % track.spans.size()] = span;
}

void Timeline::record(const Span& span) noexcept {
  const std::uint64_t session = session_.load(std::memory_order_acquire);
  if (session == 0) return;
  if (Track* track = track_of_this_thread(session)) {
    add(*track, session, span);
  } else {
    ++homeless_;
  }
}

void Timeline::record_of_device(const Span& span) noexcept {
  const std::uint64_t session = session_.load(std::memory_order_acquire);
  if (session != 0) add(*tracks_.back(), session, span);
}

}  // namespace tandem
