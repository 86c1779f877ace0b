#include "tools/probes/node_memory.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>

#include <sys/mman.h>

#include "tools/probes/chase.h"

namespace tandem::probes {
namespace {

/// "AnonHugePages:      2048 kB" -> 2048; otherwise unchanged.
void read_kilobytes(const std::string& line, const std::string& name, double& value) {
  if (line.starts_with(name)) value = std::stod(line.substr(name.size()));
}

void fill(Team& team, std::byte* bytes, std::int64_t count, double value) {
  auto* const words = reinterpret_cast<double*>(bytes);
  const std::int64_t each = count / 8 / team.members();
  team.run([&](int t) {
    double* const first = words + t * each;
    std::fill(first, t + 1 == team.members() ? words + count / 8 : first + each, value);
  });
}

}  // namespace

double share_in_huge_pages(const std::byte* mapping) {
  std::ifstream file("/proc/self/smaps");
  const auto address = reinterpret_cast<std::uintptr_t>(mapping);
  bool inside = false;
  double resident = 0, huge = -1;
  for (std::string line; std::getline(file, line);) {
    unsigned long begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) {
      if (inside) break;
      inside = begin <= address && address < end;
    } else if (inside) {
      read_kilobytes(line, "Rss:", resident);
      read_kilobytes(line, "AnonHugePages:", huge);
    }
  }
  return resident > 0 && huge >= 0 ? huge / resident : -1;
}

NodeMemory::NodeMemory(const numa::Topology& topology, int node, std::int64_t array_bytes, Team& team,
                       numa::MemoryLedger& ledger)
    : array_bytes_(array_bytes),
      arrays_(numa::HostBuffer::on_node(topology, node, 3 * array_bytes, ledger, "arrays to measure with")),
      small_(numa::HostBuffer::on_node(topology, node, array_bytes, ledger, "an array in small pages")) {
  // Where the system does not know this, it gives no huge pages either.
  (void)madvise(small_.data(), static_cast<std::size_t>(array_bytes), MADV_NOHUGEPAGE);
  fill(team, a(), array_bytes, kLinkOrigin);
  fill(team, b(), array_bytes, 2.0);
  fill(team, c(), array_bytes, 0.5);
  fill(team, small_.data(), array_bytes, kLinkOrigin);
  link(team, a(), array_bytes);
  link(team, small_.data(), array_bytes);
  huge_share_ = share_in_huge_pages(arrays_.data());
  small_share_ = share_in_huge_pages(small_.data());
}

}  // namespace tandem::probes
