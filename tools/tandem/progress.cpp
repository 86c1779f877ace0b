#include "tools/tandem/progress.h"

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>
#include <unistd.h>

#include "tools/tandem/interrupt.h"

namespace tandem::cli {
namespace {

std::string clock_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds + 0.5);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

}  // namespace

Progress::Progress(std::string label, std::int64_t total)
    : label_(std::move(label)), total_(std::max<std::int64_t>(total, 1)), visible_(isatty(STDERR_FILENO) == 1) {
  if (visible_) draw();
}

Progress::~Progress() {
  if (visible_) std::fputs("\r\033[K", stderr);
}

void Progress::update(std::int64_t done) {
  done_ = done;
  check_interrupt();
  if (visible_ && Clock::now() - drawn_ > std::chrono::milliseconds(100)) draw();
}

void Progress::draw() {
  constexpr std::int64_t kWidth = 30;
  drawn_ = Clock::now();
  const auto done = std::clamp<std::int64_t>(done_, 0, total_);
  const double seconds = std::chrono::duration<double>(drawn_ - start_).count();
  const auto filled = static_cast<std::size_t>(kWidth * done / total_);
  std::string line = fmt::format("\r\033[K{} [{}{}] {:3}%", label_, std::string(filled, '='),
                                 std::string(kWidth - filled, ' '), 100 * done / total_);
  if (done > 0 && done < total_)
    line += " ETA " + clock_text(seconds * static_cast<double>(total_ - done) / static_cast<double>(done));
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace tandem::cli
