#include "numa/host_buffer.h"

#include <atomic>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

#include "numa/hwloc_bitmap.h"
#include "runtime/base/error.h"
#include "runtime/base/log.h"

namespace tandem::numa {
namespace {

constexpr std::int64_t kHugePageBytes = std::int64_t{2} << 20;

std::int64_t page_bytes() { return sysconf(_SC_PAGESIZE); }

/// Whole pages; sizes near the top of the range stay as they are, for the ledger to refuse.
std::int64_t round_to_pages(std::int64_t bytes) {
  const std::int64_t page = page_bytes();
  if (bytes > std::numeric_limits<std::int64_t>::max() - page) return bytes;
  return (bytes + page - 1) / page * page;
}

/// Zeroed pages, or nullptr with errno set.
std::byte* map_pages(std::size_t bytes) {
  void* start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return start == MAP_FAILED ? nullptr : static_cast<std::byte*>(start);
}

/// Like map_pages, aligned to huge pages: maps more and gives the ends back.
std::byte* map_huge_aligned(std::size_t bytes) {
  const std::size_t slack = static_cast<std::size_t>(kHugePageBytes - page_bytes());
  std::byte* start = map_pages(bytes + slack);
  if (start == nullptr) return nullptr;
  const std::size_t beyond = reinterpret_cast<std::uintptr_t>(start) % kHugePageBytes;
  const std::size_t head = beyond == 0 ? 0 : kHugePageBytes - beyond;
  if (head > 0) munmap(start, head);
  if (head < slack) munmap(start + head + bytes, slack - head);
  return start + head;
}

void log_once(std::atomic_flag& logged, const char* refused) {
  const int error = errno;
  if (!logged.test_and_set()) log(LogLevel::warning, concat("host memory: ", refused, ": ", std::strerror(error)));
}

void advise_huge_pages(std::byte* start, std::int64_t bytes) {
  static std::atomic_flag logged;
  if (madvise(start, static_cast<std::size_t>(bytes), MADV_HUGEPAGE) != 0)
    log_once(logged, "the system refuses transparent huge pages");
}

/// Prefers the node and falls back to others when it is full: a bound page that cannot be had would kill the process.
void bind_to_node(const Topology& topology, int node, std::byte* start, std::int64_t bytes) {
  static std::atomic_flag logged;
  // hwloc's count and not ours: a process confined to the cores of one node may still be given another one's memory.
  const bool one_node = hwloc_get_nbobjs_by_type(topology.native(), HWLOC_OBJ_NUMANODE) <= 1;
  if (!topology.is_this_machine() || one_node) return;
  const Bitmap nodeset = make_bitmap();
  hwloc_bitmap_only(nodeset.get(), static_cast<unsigned>(topology.nodes()[static_cast<std::size_t>(node)].os_index));
  if (hwloc_set_area_membind(topology.native(), start, static_cast<std::size_t>(bytes), nodeset.get(),
                             HWLOC_MEMBIND_BIND, HWLOC_MEMBIND_BYNODESET) != 0)
    log_once(logged, "the system refuses to bind memory to NUMA nodes");
}

}  // namespace

HostBuffer HostBuffer::on_node(const Topology& topology, int node, std::int64_t bytes, MemoryLedger& ledger,
                               const char* what) {
  assert(node >= 0 && node < topology.num_nodes());
  assert(bytes >= 0);
  HostBuffer buffer;
  if (bytes == 0) return buffer;
  const std::int64_t mapped_bytes = round_to_pages(bytes);
  buffer.reservation_ = ledger.reserve(mapped_bytes, what);
  const bool huge = bytes >= kHugePageBytes;
  const auto size = static_cast<std::size_t>(mapped_bytes);
  buffer.data_ = huge ? map_huge_aligned(size) : map_pages(size);
  TANDEM_CHECK(buffer.data_ != nullptr, out_of_memory, "host memory: ", what, " needs ", mapped_bytes,
               " bytes, within the limit of ", ledger.limit_bytes(), " bytes of which ", ledger.used_bytes(),
               " are reserved, but the system refuses: ", std::strerror(errno));
  buffer.bytes_ = bytes;
  buffer.mapped_bytes_ = mapped_bytes;
  bind_to_node(topology, node, buffer.data_, mapped_bytes);
  if (huge) advise_huge_pages(buffer.data_, mapped_bytes);
  return buffer;
}

HostBuffer::HostBuffer(HostBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      mapped_bytes_(std::exchange(other.mapped_bytes_, 0)),
      reservation_(std::move(other.reservation_)) {}

HostBuffer& HostBuffer::operator=(HostBuffer&& other) noexcept {
  HostBuffer taken(std::move(other));  // what this buffer held goes with it, at once and not when `other` goes
  std::swap(data_, taken.data_);
  std::swap(bytes_, taken.bytes_);
  std::swap(mapped_bytes_, taken.mapped_bytes_);
  std::swap(reservation_, taken.reservation_);
  return *this;
}

HostBuffer::~HostBuffer() {
  if (data_ != nullptr) munmap(data_, static_cast<std::size_t>(mapped_bytes_));
}

}  // namespace tandem::numa
