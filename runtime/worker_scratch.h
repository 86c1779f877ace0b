#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "cpu/aligned_vector.h"
#include "cpu/attention_pass.h"
#include "cpu/selection.h"
#include "lsh/selector.h"

namespace tandem {

/// Everything that one task of a step writes besides its result. Buffers grow to the largest task and then stay.
struct WorkerScratch {
  cpu::AttentionScratch attention;
  lsh::SelectScratch select;
  cpu::Selection selection;
  cpu::AlignedVector<float> queries;      // (num_vectors, padded_k), scaled
  std::vector<std::int64_t> positions;    // (num_queries)
  std::vector<float> out, lse;            // the merged partial, (num_vectors, dim_v) and (num_vectors)
  std::vector<float> host_out, host_lse;  // the host tier's partial
  std::vector<float> lse_variance;        // (num_vectors)
  cpu::AlignedVector<std::byte> page;     // one page on its way from the window to the store
};

/// Scratch that is lent to one task at a time, so that a steady step allocates nothing. Thread-safe.
class ScratchPool {
 public:
  /// Gives the scratch back when it goes.
  class Lease {
   public:
    explicit Lease(ScratchPool& pool) : pool_(pool), scratch_(pool.take()) {}
    ~Lease() { pool_.give_back(std::move(scratch_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    WorkerScratch& operator*() const noexcept { return *scratch_; }

   private:
    ScratchPool& pool_;
    std::unique_ptr<WorkerScratch> scratch_;
  };

 private:
  std::unique_ptr<WorkerScratch> take() {
    const std::lock_guard lock(mutex_);
    idle_.reserve(++lent_);  // so that giving back cannot fail
    if (idle_.empty()) return std::make_unique<WorkerScratch>();
    auto scratch = std::move(idle_.back());
    idle_.pop_back();
    return scratch;
  }
  void give_back(std::unique_ptr<WorkerScratch> scratch) noexcept {
    const std::lock_guard lock(mutex_);
    --lent_;
    idle_.push_back(std::move(scratch));
  }

  std::mutex mutex_;
  std::size_t lent_ = 0;
  std::vector<std::unique_ptr<WorkerScratch>> idle_;
};

}  // namespace tandem
