#include "tools/probes/team.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <latch>
#include <system_error>
#include <thread>

#include <sched.h>

namespace tandem::probes {
namespace {

using Clock = std::chrono::steady_clock;

struct Span {
  Clock::time_point begin, end;
};

double us_of(const std::vector<Span>& spans) {
  Span all = spans.front();
  for (const Span& span : spans) all = {std::min(all.begin, span.begin), std::max(all.end, span.end)};
  return std::chrono::duration<double, std::micro>(all.end - all.begin).count();
}

}  // namespace

Team::Team(const numa::Topology& topology, std::vector<int> cpus) : cpus_(std::move(cpus)) {
  if (!topology.is_this_machine()) std::fill(cpus_.begin(), cpus_.end(), kAnyCpu);
}

bool Team::pin(int cpu) const {
  if (cpu == kAnyCpu) return true;
  std::vector<cpu_set_t> set(static_cast<std::size_t>(cpu / CPU_SETSIZE + 1), cpu_set_t{});
  const std::size_t bytes = set.size() * sizeof(cpu_set_t);
  CPU_SET_S(static_cast<std::size_t>(cpu), bytes, set.data());
  return sched_setaffinity(0, bytes, set.data()) == 0;
}

double Team::run(const std::function<void(int)>& work) {
  const int count = members();
  std::vector<Span> spans(static_cast<std::size_t>(count));
  std::latch start(count);  // whose waiting threads sleep: those that yield for long are the last to get a busy CPU
  std::atomic<bool> refused{false};
  std::atomic<bool> called_off{false};
  {
    std::vector<std::jthread> threads;
    const auto member = [&](int t) {
      if (!pin(cpus_[static_cast<std::size_t>(t)])) refused = true;
      start.arrive_and_wait();
      if (called_off.load()) return;
      Span& span = spans[static_cast<std::size_t>(t)];
      span.begin = Clock::now();
      work(t);
      span.end = Clock::now();
    };
    try {
      for (int t = 0; t < count; ++t) threads.emplace_back(member, t);
    } catch (...) {
      called_off = true;
      start.count_down(count - static_cast<std::ptrdiff_t>(threads.size()));
      throw;
    }
  }
  refused_ = refused_ || refused;
  return us_of(spans);
}

}  // namespace tandem::probes
