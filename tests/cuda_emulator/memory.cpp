#include "memory.h"

#include <map>
#include <mutex>
#include <optional>

#include "guarded_memory.h"

namespace emulator {
namespace {

struct Range {
  std::size_t bytes;
  MemoryKind kind;
  int device = -1;
  std::optional<GuardedMemory> memory;  // none where the memory is registered
};

struct Registry {
  std::mutex mutex;
  std::map<const unsigned char*, Range> ranges;

  /// The range that `pointer` lies in, or end().
  auto find(const void* pointer) {
    const auto* address = static_cast<const unsigned char*>(pointer);
    auto after = ranges.upper_bound(address);
    if (after == ranges.begin()) return ranges.end();
    --after;
    return address < after->first + after->second.bytes ? after : ranges.end();
  }
  auto start(const void* pointer, MemoryKind kind, bool owned) {
    const auto found = ranges.find(static_cast<const unsigned char*>(pointer));
    if (found == ranges.end() || found->second.kind != kind || found->second.memory.has_value() != owned) {
      throw Refusal{cudaErrorInvalidValue, "the pointer is not the start of a living allocation of this kind"};
    }
    return found;
  }
  /// No bytes may also lie at the end of a range.
  [[nodiscard]] bool contains(const void* pointer, std::size_t bytes, bool device, bool pinned) {
    auto found = find(pointer);
    if (found == ranges.end() && bytes == 0) found = find(static_cast<const unsigned char*>(pointer) - 1);
    if (found == ranges.end()) return false;
    const auto offset = static_cast<std::size_t>(static_cast<const unsigned char*>(pointer) - found->first);
    const bool kind = found->second.kind == MemoryKind::device ? device : pinned;
    return kind && bytes <= found->second.bytes - offset;
  }
};

Registry& registry() {
  static Registry& all = *new Registry;  // streams may outlive static objects
  return all;
}

std::string overrun(const Range& range) {
  return "a write beside an allocation of " + std::to_string(range.bytes) + " bytes of " +
         (range.kind == MemoryKind::device ? "device" : "pinned host") + " memory";
}

void* insert(std::size_t bytes, MemoryKind kind, int device) {
  GuardedMemory memory(bytes);
  unsigned char* const pointer = memory.data();
  const std::lock_guard lock(registry().mutex);
  registry().ranges.emplace(pointer, Range{bytes, kind, device, std::move(memory)});
  return pointer;
}

void erase(void* pointer, MemoryKind kind) {
  const std::lock_guard lock(registry().mutex);
  const auto found = registry().start(pointer, kind, true);
  if (!found->second.memory->intact()) record_fault(overrun(found->second));
  registry().ranges.erase(found);
}

int count(MemoryKind kind) {
  const std::lock_guard lock(registry().mutex);
  int found = 0;
  for (const auto& [pointer, range] : registry().ranges) found += range.kind == kind;
  return found;
}

}  // namespace

void* allocate_device(int device, std::size_t bytes) {
  const std::size_t used = device_bytes(device);
  const std::size_t total = config().device_bytes;
  if (used > total || bytes > total - used) throw Refusal{cudaErrorMemoryAllocation, {}};
  return insert(bytes, MemoryKind::device, device);
}

void free_device(void* pointer) { erase(pointer, MemoryKind::device); }

int device_of(const void* pointer) {
  const std::lock_guard lock(registry().mutex);
  return registry().start(pointer, MemoryKind::device, true)->second.device;
}

void* allocate_pinned(std::size_t bytes) { return insert(bytes, MemoryKind::pinned, -1); }
void free_pinned(void* pointer) { erase(pointer, MemoryKind::pinned); }

void register_pinned(void* pointer, std::size_t bytes) {
  const auto* begin = static_cast<const unsigned char*>(pointer);
  const std::lock_guard lock(registry().mutex);
  auto& ranges = registry().ranges;
  const auto next = ranges.lower_bound(begin);
  if (registry().find(pointer) != ranges.end() || (next != ranges.end() && next->first < begin + bytes)) {
    throw Refusal{cudaErrorHostMemoryAlreadyRegistered, {}};
  }
  ranges.emplace(begin, Range{bytes, MemoryKind::pinned, -1, std::nullopt});
}

void unregister_pinned(void* pointer) {
  const std::lock_guard lock(registry().mutex);
  registry().ranges.erase(registry().start(pointer, MemoryKind::pinned, false));
}

MemoryKind memory_kind(const void* pointer) {
  const std::lock_guard lock(registry().mutex);
  const auto found = registry().find(pointer);
  return found == registry().ranges.end() ? MemoryKind::pageable : found->second.kind;
}

int owner_of(const void* pointer) {
  const std::lock_guard lock(registry().mutex);
  const auto found = registry().find(pointer);
  return found == registry().ranges.end() ? -1 : found->second.device;
}

void require_memory(const void* pointer, std::size_t bytes, MemoryKind kind, const std::string& what) {
  if (kind == MemoryKind::device) {
    const std::lock_guard lock(registry().mutex);
    if (registry().contains(pointer, bytes, true, false)) return;
    throw Refusal{cudaErrorInvalidValue, what + " does not lie in a living allocation of device memory"};
  }
  const MemoryKind found = memory_kind(pointer);
  if (found == MemoryKind::pageable) return;
  const std::lock_guard lock(registry().mutex);
  if (registry().contains(pointer, bytes, false, true)) return;
  throw Refusal{cudaErrorInvalidValue, what + " is not host memory, or runs over its allocation"};
}

void require_mapped(const void* pointer, std::size_t bytes, const std::string& what) {
  const std::lock_guard lock(registry().mutex);
  if (registry().contains(pointer, bytes, true, true)) return;
  throw Refusal{cudaErrorInvalidValue, what + " lies neither in device memory nor in pinned host memory"};
}

void check_guards() {
  const std::lock_guard lock(registry().mutex);
  for (const auto& [pointer, range] : registry().ranges) {
    if (range.memory && !range.memory->intact()) throw Fault(overrun(range));
  }
}

std::size_t device_bytes(int device) {
  const std::lock_guard lock(registry().mutex);
  std::size_t bytes = 0;
  for (const auto& [pointer, range] : registry().ranges) bytes += range.device == device ? range.bytes : 0;
  return bytes;
}

int device_allocations() { return count(MemoryKind::device); }
int pinned_allocations() { return count(MemoryKind::pinned); }

}  // namespace emulator
