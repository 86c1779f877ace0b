#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace tandem::cli {

/// A bar with percent and remaining time on stderr, when that is a terminal; it vanishes when the object does. Every
/// update is also a point where Ctrl-C takes effect. One thread at a time.
class Progress {
 public:
  Progress(std::string label, std::int64_t total);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  /// `done` of `total` units are finished. Throws Interrupted after Ctrl-C.
  void update(std::int64_t done);
  void advance(std::int64_t units = 1) { update(done_ + units); }

 private:
  using Clock = std::chrono::steady_clock;
  void draw();

  std::string label_;
  std::int64_t total_;
  std::int64_t done_ = 0;
  bool visible_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point drawn_{};
};

}  // namespace tandem::cli
