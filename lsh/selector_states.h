#pragma once

#include <concepts>
#include <cstdint>
#include <utility>
#include <variant>

#include "cpu/kv_store.h"
#include "cpu/selection.h"
#include "lsh/query_log.h"
#include "lsh/sketch_index.h"
#include "lsh/tables.h"
#include "lsh/top_k.h"

namespace tandem::lsh {

/// Memory that the selections of one worker share.
struct SelectScratch {
  SketchScratch sketch;
  TablesScratch tables;
  TopKScratch top_k;
};

/// What a policy keeps about the rows of one (sequence, layer, kv_head), with the members of HeadIndex.
template <typename T>
concept SelectorState = requires(const T& state, T& changing, typename T::Extension&& extension,
                                 const cpu::Kernels& kernels, const cpu::KvStore& store, const QueryLog& queries,
                                 const SelectRequest& request, SelectScratch& scratch, cpu::Selection& selection,
                                 double wanted_error, std::int64_t size) {
  { state.lacks_rows_of(store, queries) }
  noexcept->std::same_as<bool>;
  { state.prepare(kernels, store, queries, scratch) } -> std::same_as<typename T::Extension>;
  { changing.commit(std::move(extension)) }
  noexcept;
  { state.can_select(wanted_error) }
  noexcept->std::same_as<bool>;
  { state.fork(size) } -> std::same_as<T>;
  { state.bytes() }
  noexcept->std::same_as<std::int64_t>;
  { state.calibrated_rows() }
  noexcept->std::same_as<std::int64_t>;
  state.select(request, scratch, selection);
};

/// Policies that keep nothing.
struct WithoutIndex {
  using Extension = std::monostate;
  [[nodiscard]] bool lacks_rows_of(const cpu::KvStore&, const QueryLog&) const noexcept { return false; }
  [[nodiscard]] Extension prepare(const cpu::Kernels&, const cpu::KvStore&, const QueryLog&, SelectScratch&) const {
    return {};
  }
  void commit(Extension&&) noexcept {}
  [[nodiscard]] bool can_select(double) const noexcept { return true; }
  [[nodiscard]] std::int64_t bytes() const noexcept { return 0; }
  [[nodiscard]] std::int64_t calibrated_rows() const noexcept { return 0; }
};

struct AllRows : WithoutIndex {
  [[nodiscard]] AllRows fork(std::int64_t) const { return *this; }
  void select(const SelectRequest&, SelectScratch&, cpu::Selection&) const {}  // nobody asks for a list
};

struct TopKRows : WithoutIndex {
  explicit TopKRows(const TopKParams& p) : params(p) {}
  [[nodiscard]] TopKRows fork(std::int64_t) const { return *this; }
  void select(const SelectRequest& request, SelectScratch& scratch, cpu::Selection& selection) const {
    select_top_k(params, request, scratch.top_k, selection);
  }
  TopKParams params;
};

struct HashedRows {
  using Extension = LshTables::Extension;
  [[nodiscard]] bool lacks_rows_of(const cpu::KvStore& store, const QueryLog&) const noexcept {
    return tables.size() < store.size();
  }
  [[nodiscard]] Extension prepare(const cpu::Kernels& kernels, const cpu::KvStore& store, const QueryLog&,
                                  SelectScratch& scratch) const {
    return tables.prepare(kernels, store, scratch.tables);
  }
  void commit(Extension&& extension) noexcept { tables.commit(std::move(extension)); }
  [[nodiscard]] bool can_select(double) const noexcept { return true; }
  [[nodiscard]] HashedRows fork(std::int64_t size) const { return {tables.fork(size)}; }
  [[nodiscard]] std::int64_t bytes() const noexcept { return tables.bytes(); }
  [[nodiscard]] std::int64_t calibrated_rows() const noexcept { return 0; }
  void select(const SelectRequest& request, SelectScratch& scratch, cpu::Selection& selection) const {
    tables.select(request, scratch.tables, selection);
  }
  LshTables tables;
};

struct SketchedRows {
  using Extension = SketchIndex::Extension;
  [[nodiscard]] bool lacks_rows_of(const cpu::KvStore& store, const QueryLog& queries) const noexcept {
    return index.lacks_rows_of(store, queries);
  }
  [[nodiscard]] Extension prepare(const cpu::Kernels& kernels, const cpu::KvStore& store, const QueryLog& queries,
                                  SelectScratch& scratch) const {
    return index.prepare(kernels, store, queries, scratch.sketch);
  }
  void commit(Extension&& extension) noexcept { index.commit(std::move(extension)); }
  [[nodiscard]] bool can_select(double wanted_error) const noexcept {
    return index.map() != nullptr && (wanted_error <= 0 || index.sigma() <= kCertifiedSigma);
  }
  [[nodiscard]] SketchedRows fork(std::int64_t size) const { return {index.fork(size)}; }
  [[nodiscard]] std::int64_t bytes() const noexcept { return index.bytes(); }
  [[nodiscard]] std::int64_t calibrated_rows() const noexcept { return index.map() == nullptr ? 0 : index.map()->rows; }
  void select(const SelectRequest& request, SelectScratch& scratch, cpu::Selection& selection) const {
    index.select(request, scratch.sketch, selection);
  }
  SketchIndex index;
};

template <SelectorState... States>
using OneOf = std::variant<States...>;

}  // namespace tandem::lsh
