#pragma once
#include <mutex>
#include <set>
#include <string>

#include "machine.h"

namespace emulator {

/// The handles of one kind that exist. Thread-safe.
template <class Handle>
class HandleSet {
 public:
  explicit HandleSet(std::string unknown) : unknown_(std::move(unknown)) {}

  Handle* create(Handle value) {
    auto* handle = new Handle(std::move(value));
    const std::lock_guard lock(mutex_);
    handles_.insert(handle);
    return handle;
  }
  /// Throws Refusal if there is no such handle.
  Handle& require(Handle* handle) {
    const std::lock_guard lock(mutex_);
    if (!handles_.contains(handle)) throw Refusal{cudaErrorInvalidResourceHandle, unknown_};
    return *handle;
  }
  void destroy(Handle* handle) {
    require(handle);
    const std::lock_guard lock(mutex_);
    handles_.erase(handle);
    delete handle;
  }
  int count() {
    const std::lock_guard lock(mutex_);
    return static_cast<int>(handles_.size());
  }

 private:
  std::string unknown_;
  std::mutex mutex_;
  std::set<Handle*> handles_;
};

}  // namespace emulator
