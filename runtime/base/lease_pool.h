#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace tandem {

/// Buffers that are lent to one user at a time and keep their size, so that a steady step allocates nothing. Holds as
/// many as were ever in use at once. Thread-safe.
template <typename Buffers>
class LeasePool {
 public:
  /// Gives the buffers back when it goes.
  class Lease {
   public:
    explicit Lease(LeasePool& pool) : pool_(pool), buffers_(pool.take()) {}
    ~Lease() { pool_.give_back(std::move(buffers_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Buffers& operator*() const noexcept { return *buffers_; }
    Buffers* operator->() const noexcept { return buffers_.get(); }

   private:
    LeasePool& pool_;
    std::unique_ptr<Buffers> buffers_;
  };

 private:
  std::unique_ptr<Buffers> take() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) {
      idle_.reserve(++made_);  // so that giving back cannot fail
      return std::make_unique<Buffers>();
    }
    auto buffers = std::move(idle_.back());
    idle_.pop_back();
    return buffers;
  }
  void give_back(std::unique_ptr<Buffers> buffers) noexcept {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(buffers));
  }

  std::mutex mutex_;
  std::size_t made_ = 0;
  std::vector<std::unique_ptr<Buffers>> idle_;
};

}  // namespace tandem
