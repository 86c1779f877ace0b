#include "tools/probes/chase.h"

#include <bit>
#include <cstring>

#include "tools/probes/scatter.h"

namespace tandem::probes {
namespace {

constexpr std::int64_t kLinkBytes = 256;
constexpr std::uint64_t kMantissa = (std::uint64_t{1} << 52) - 1;

double link_to(std::int64_t offset) {
  return std::bit_cast<double>(std::bit_cast<std::uint64_t>(kLinkOrigin) | static_cast<std::uint64_t>(offset));
}

}  // namespace

std::int64_t links_in(std::int64_t bytes) { return Scatter(bytes / kLinkBytes).count(); }

void link(Team& team, std::byte* array, std::int64_t bytes) {
  const Scatter order(bytes / kLinkBytes);
  const std::int64_t count = order.count();
  team.run([&](int t) {
    const std::int64_t end = count * (t + 1) / team.members();
    for (std::int64_t i = count * t / team.members(); i < end; ++i) {
      const double next = link_to(order(i + 1) * kLinkBytes);
      std::memcpy(array + order(i) * kLinkBytes, &next, sizeof(next));
    }
  });
}

double chase_ns(Team& team, const std::byte* array, std::int64_t bytes, std::int64_t first, std::int64_t steps) {
  const std::int64_t start = Scatter(bytes / kLinkBytes)(first) * kLinkBytes;
  const double us = team.run([&](int) {
    auto at = static_cast<std::uint64_t>(start);
    for (std::int64_t i = 0; i < steps; ++i) {
      std::uint64_t word;
      std::memcpy(&word, array + at, sizeof(word));
      at = word & kMantissa;
    }
    keep(at);
  });
  return us * 1000 / static_cast<double>(steps);
}

}  // namespace tandem::probes
