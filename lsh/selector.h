#pragma once

#include <cstdint>
#include <memory>
#include <variant>
#include <vector>

#include "cpu/codec/simhash.h"
#include "cpu/kv_store.h"
#include "cpu/selection.h"
#include "lsh/selector_states.h"
#include "numa/memory_ledger.h"

namespace tandem::lsh {

/// Every host row: exact.
struct SelectAllParams {
  friend bool operator==(const SelectAllParams&, const SelectAllParams&) = default;
};

/// Which rows of the host tier a decode step attends to.
using SelectorParams = std::variant<SelectAllParams, TopKParams, LshParams, SketchParams>;

/// Throws Error(invalid_argument) naming the field, the value and what is allowed.
void validate(const SelectorParams& params);

/// A policy and what it shares among all heads of a model. Immutable; copies are cheap.
class Selector {
 public:
  /// Throws as validate().
  Selector(const SelectorParams& params, int head_dim_k);

  [[nodiscard]] const SelectorParams& params() const noexcept { return params_; }
  [[nodiscard]] bool selects_all() const noexcept { return std::holds_alternative<SelectAllParams>(params_); }
  /// False for a policy whose weights allow no estimate of its error (top-k of either kind).
  [[nodiscard]] bool estimates_error() const noexcept;
  /// The relative error of out that a step should meet, or 0.
  [[nodiscard]] double wanted_error() const noexcept;
  [[nodiscard]] const std::shared_ptr<const cpu::SimHash>& hash() const noexcept { return hash_; }

 private:
  SelectorParams params_;
  std::shared_ptr<const cpu::SimHash> hash_;  // of LshParams, else null
};

/// What a policy keeps about the rows of one (sequence, layer, kv_head).
class HeadIndex {
 public:
  /// `stream` tells this head's random numbers from those of other heads.
  HeadIndex(const Selector& selector, const IndexMemory& memory, std::uint64_t stream);

  /// True when `store` has rows that extend() would index.
  [[nodiscard]] bool lacks_rows_of(const cpu::KvStore& store, const QueryLog& queries) const noexcept;
  using Extension = std::variant<std::monostate, LshTables::Extension, SketchIndex::Extension>;
  /// Indexes the rows that `store` has beyond those indexed, calibrating on `queries` where the policy needs that;
  /// nothing changes before commit(). Throws Error(out_of_memory), or what memory.coder throws.
  [[nodiscard]] Extension prepare(const cpu::Kernels& kernels, const cpu::KvStore& store, const QueryLog& queries,
                                  SelectScratch& scratch) const;
  void commit(Extension&& extension) noexcept;
  /// Both at once. Throws as prepare(), and then nothing changed.
  void extend(const cpu::Kernels& kernels, const cpu::KvStore& store, const QueryLog& queries, SelectScratch& scratch) {
    commit(prepare(kernels, store, queries, scratch));
  }
  /// False where select() can only take every row: there is no index yet, or it cannot tell how large an error is and
  /// one is wanted.
  [[nodiscard]] bool can_select(double wanted_error) const noexcept;
  /// An index of (at most) the first `size` rows, sharing what is immutable.
  [[nodiscard]] HeadIndex fork(std::int64_t size) const;
  [[nodiscard]] std::int64_t bytes() const noexcept;
  /// Rows that the index in use was calibrated on; 0 for none, and for policies that do not calibrate.
  [[nodiscard]] std::int64_t calibrated_rows() const noexcept;

  /// Selects among the rows [request.begin, request.end), which must be indexed. `scratch` must live as long as the
  /// selection is used. Not for SelectAll, which needs no list.
  void select(const SelectRequest& request, SelectScratch& scratch, cpu::Selection& selection) const;

 private:
  using State = OneOf<AllRows, TopKRows, HashedRows, SketchedRows>;
  explicit HeadIndex(State state) : state_(std::move(state)) {}
  State state_;
};

}  // namespace tandem::lsh
