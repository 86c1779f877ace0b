#pragma once

#include <array>
#include <chrono>
#include <cstdint>

namespace tandem {

/// The stages of one attention step, in the order of runtime/README.md.
enum class Stage : std::uint8_t { append, evict, index, window, select, attend, merge };

inline constexpr int kNumStages = 7;

const char* to_string(Stage stage) noexcept;

/// Microseconds of worker time and bytes moved, per stage. Adding two traces adds both.
struct StageTrace {
  struct Entry {
    double us = 0;
    std::int64_t bytes = 0;
  };
  std::array<Entry, kNumStages> stages{};

  Entry& operator[](Stage stage) noexcept { return stages[static_cast<std::size_t>(stage)]; }
  const Entry& operator[](Stage stage) const noexcept { return stages[static_cast<std::size_t>(stage)]; }
  StageTrace& operator+=(const StageTrace& other) noexcept;
  /// Of all stages.
  [[nodiscard]] std::int64_t bytes() const noexcept;
};

/// Wall clock since construction or the last lap.
class Stopwatch {
 public:
  /// Microseconds since the last lap; starts the next one.
  double lap_us() noexcept {
    const auto now = Clock::now();
    const double us = std::chrono::duration<double, std::micro>(now - start_).count();
    start_ = now;
    return us;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

}  // namespace tandem
