#include "guarded_memory.h"

#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

#include "sanitizers.h"

namespace emulator {
namespace {

constexpr unsigned char kGuard = 0xa5;
constexpr std::align_val_t kAlignment{GuardedMemory::kGuardBytes};

}  // namespace

void fill_junk(unsigned char* data, std::size_t bytes) {
  constexpr std::uint32_t junk = 0x7fa0dead;
  std::size_t done = 0;
  for (; done + sizeof(junk) <= bytes; done += sizeof(junk)) std::memcpy(data + done, &junk, sizeof(junk));
  std::memcpy(data + done, &junk, bytes - done);
}

GuardedMemory::GuardedMemory(std::size_t bytes)
    : base_(static_cast<unsigned char*>(::operator new(bytes + 2 * kGuardBytes, kAlignment))), bytes_(bytes) {
  std::memset(base_, kGuard, kGuardBytes);
  std::memset(data() + bytes, kGuard, kGuardBytes);
  fill_junk(data(), bytes);
#if defined(EMULATOR_ASAN)
  __asan_poison_memory_region(base_, kGuardBytes);
  __asan_poison_memory_region(data() + bytes, kGuardBytes);
#endif
}

GuardedMemory::GuardedMemory(GuardedMemory&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)), bytes_(other.bytes_) {}

GuardedMemory::~GuardedMemory() {
  if (base_ == nullptr) return;
#if defined(EMULATOR_ASAN)
  __asan_unpoison_memory_region(base_, bytes_ + 2 * kGuardBytes);
#endif
  ::operator delete(base_, kAlignment);
}

bool GuardedMemory::intact() const noexcept {
#if !defined(EMULATOR_ASAN)
  for (std::size_t i = 0; i < kGuardBytes; ++i) {
    if (base_[i] != kGuard || data()[bytes_ + i] != kGuard) return false;
  }
#endif
  return true;
}

}  // namespace emulator
