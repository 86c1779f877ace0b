#include "bench/decode_step/cold.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>

#include <fmt/format.h>

#include "tools/tandem/command.h"

namespace tandem::bench {
namespace {

/// Copies of `bytes` of data that exceed the last-level cache.
int copies_for(std::int64_t bytes, std::int64_t cache_bytes) {
  const double wanted = kColdFactor * static_cast<double>(cache_bytes);
  return static_cast<int>(std::min(1e6, std::ceil(wanted / static_cast<double>(bytes)))) + 1;
}

}  // namespace

const char* to_string(Cold cold) noexcept {
  static constexpr const char* kNames[] = {"wash", "rotate", "warm"};
  return kNames[static_cast<int>(cold)];
}

std::int64_t available_bytes() {
  std::ifstream file("/proc/meminfo");
  std::string name;
  std::int64_t kib = 0;
  while (file >> name >> kib) {
    if (name == "MemAvailable:") return kib * 1024;
    file.ignore(100, '\n');
  }
  return INT64_MAX;
}

Cold cold_of(const Options& options, std::int64_t smallest_bytes, std::int64_t cache_bytes) {
  constexpr int kFewCopies = 32;
  if (options.cold == "warm") return Cold::warm;
  if (options.cold == "wash") return Cold::wash;
  if (options.cold == "rotate") return Cold::rotate;
  const auto& selectors = options.selectors;
  const bool dense = options.baselines.empty() && std::all_of(selectors.begin(), selectors.end(), [](const Json& each) {
                       return each.at("kind") == "all";
                     });
  const int copies = copies_for(smallest_bytes, cache_bytes);
  const bool fits = copies * smallest_bytes < available_bytes() / 4;
  return dense && copies <= kFewCopies && fits ? Cold::rotate : Cold::wash;
}

int layers_for(Cold cold, std::int64_t bytes, std::int64_t cache_bytes) {
  constexpr int kMostCopies = 1024;
  if (cold != Cold::rotate) return 1;
  const int copies = copies_for(bytes, cache_bytes);
  if (copies > kMostCopies || copies * bytes > available_bytes() / 2)
    throw cli::UsageError(
        fmt::format("--cold: 'rotate' is not allowed, it would take {} copies of {} KiB; allowed: {}, in "
                    "half of the free memory; wash does not need any",
                    copies, bytes >> 10, kMostCopies));
  return copies;
}

}  // namespace tandem::bench
