#include "tools/tandem/temporary_path.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace tandem::cli {
namespace {

/// A path where a signal handler can read it, which may take no lock and no memory.
struct Slot {
  enum State { free, filling, filled };
  std::atomic<int> state{free};
  char path[PATH_MAX] = {};
};
static_assert(std::atomic<int>::is_always_lock_free);

constexpr int kNone = -1;
std::array<Slot, 8>
    slots;  // a command has four outputs at most; what finds none free is removed by its destructor alone

int put(const std::string& path) noexcept {
  if (path.size() >= sizeof(Slot::path)) return kNone;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    int expected = Slot::free;
    if (!slots[i].state.compare_exchange_strong(expected, Slot::filling)) continue;
    std::memcpy(slots[i].path, path.c_str(), path.size() + 1);
    slots[i].state = Slot::filled;
    return static_cast<int>(i);
  }
  return kNone;
}

/// Not through readdir, which allocates.
void remove_entries(int folder) noexcept {
  alignas(dirent64) char entries[4096];
  for (;;) {
    const long bytes = ::syscall(SYS_getdents64, folder, entries, sizeof(entries));
    if (bytes <= 0) return;
    for (long at = 0; at < bytes;) {
      const auto* entry = reinterpret_cast<const dirent64*>(entries + at);
      ::unlinkat(folder, entry->d_name, 0);  // fails for "." and ".."
      at += entry->d_reclen;
    }
  }
}

void remove_folder(const char* path) noexcept {
  constexpr int kPasses = 100;  // other threads may still be writing
  for (int pass = 0; pass < kPasses; ++pass) {
    if (::rmdir(path) == 0 || (errno != ENOTEMPTY && errno != EEXIST)) return;
    const int folder = ::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return;
    remove_entries(folder);
    ::close(folder);
  }
}

}  // namespace

TemporaryPath::TemporaryPath(const std::filesystem::path& target) : path_(target), target_(target) {
  path_ += fmt::format(".tmp-{}", getpid());
  slot_ = put(path_.string());
}

TemporaryPath::~TemporaryPath() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  if (slot_ == kNone) return;
  // Not where remove_temporaries() has taken it, and may still be reading.
  int expected = Slot::filled;
  slots[static_cast<std::size_t>(slot_)].state.compare_exchange_strong(expected, Slot::free);
}

void TemporaryPath::rename_to_target(std::error_code& error) {
  std::filesystem::rename(path_, target_, error);
  if (!error) path_.clear();
}

void remove_temporaries() noexcept {
  for (Slot& slot : slots) {
    int expected = Slot::filled;
    if (!slot.state.compare_exchange_strong(expected, Slot::filling)) continue;
    if (::unlink(slot.path) != 0 && errno != ENOENT) remove_folder(slot.path);
  }
}

}  // namespace tandem::cli
