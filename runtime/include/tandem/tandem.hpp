// tandem.hpp: thin RAII over tandem.h. Every function throws td::Error with the text of td_last_error().
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "tandem/tandem.h"

namespace td {

class Error : public std::runtime_error {
 public:
  explicit Error(td_status status) : std::runtime_error(td_last_error()), status_(status) {}
  [[nodiscard]] td_status status() const noexcept { return status_; }

 private:
  td_status status_;
};

inline void check(td_status status) {
  if (status != TD_OK) throw Error(status);
}

/// A zeroed ABI struct with its size set: auto config = td::make<td_config>();
template <typename Struct>
Struct make() {
  Struct value{};
  value.size = static_cast<std::uint32_t>(sizeof(Struct));
  return value;
}

/// A dense tensor (tokens, heads, dim). Input tensors are not written, though td_tensor has no const.
inline td_tensor tensor(const void* data, td_dtype dtype, std::int64_t tokens, std::int64_t heads, std::int64_t dim,
                        td_memory memory = TD_MEMORY_HOST) {
  return {const_cast<void*>(data), {tokens, heads, dim}, {0, 0}, dtype, memory};
}

/// Owns a td_rt. Move-only. Thread-safety as stated in tandem.h.
class Runtime {
 public:
  explicit Runtime(td_config config) {
    config.abi = TANDEM_ABI;
    check(td_create(&config, &rt_));
  }
  explicit Runtime(const std::string& json) { check(td_create_json(json.c_str(), &rt_)); }
  Runtime(Runtime&& other) noexcept : rt_(std::exchange(other.rt_, nullptr)) {}
  Runtime& operator=(Runtime&& other) noexcept {
    std::swap(rt_, other.rt_);
    return *this;
  }
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;
  ~Runtime() { td_destroy(rt_); }

  [[nodiscard]] td_rt* get() const noexcept { return rt_; }
  [[nodiscard]] std::string describe() const {
    std::size_t needed = 0;
    check(td_describe(rt_, nullptr, 0, &needed));
    std::string text(needed, '\0');
    check(td_describe(rt_, text.data(), text.size(), &needed));
    text.resize(needed - 1);
    return text;
  }
  void append(const td_append_args& args) const { check(td_append(rt_, &args)); }
  void attend(const td_attend_args& args) const { check(td_attend(rt_, &args)); }
  void start_timeline(const std::string& path, std::int64_t max_spans = 0) const {
    check(td_timeline_start(rt_, path.c_str(), max_spans));
  }
  void stop_timeline() const { check(td_timeline_stop(rt_)); }

 private:
  td_rt* rt_ = nullptr;
};

/// Owns one td_pool of a Runtime, which must outlive it. Move-only.
class Pool {
 public:
  Pool(const Runtime& rt, const td_pool_args& args) : rt_(rt.get()) { check(td_pool_bind(rt_, &args, &id_)); }
  Pool(Pool&& other) noexcept : rt_(other.rt_), id_(std::exchange(other.id_, 0)) {}
  Pool& operator=(Pool&& other) noexcept {
    std::swap(rt_, other.rt_);
    std::swap(id_, other.id_);
    return *this;
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() {
    if (id_ != 0) td_pool_unbind(rt_, id_);
  }

  [[nodiscard]] td_pool id() const noexcept { return id_; }
  void written(const std::int64_t* rows, std::int64_t num_rows) const {
    check(td_rows_written(rt_, id_, rows, num_rows));
  }
  /// `args` with this pool.
  void attend(td_attend_rows_args args) const {
    args.pool = id_;
    check(td_attend_rows(rt_, &args));
  }
  /// See td_rows_verify.
  std::int64_t verify() const {  // NOLINT(modernize-use-nodiscard): forgets what it finds
    std::int64_t stale = 0;
    check(td_rows_verify(rt_, id_, &stale));
    return stale;
  }
  [[nodiscard]] td_pool_info info() const {
    auto info = make<td_pool_info>();
    check(td_pool_query(rt_, id_, &info));
    return info;
  }

 private:
  td_rt* rt_;
  td_pool id_ = 0;
};

/// Owns one sequence of a Runtime, which must outlive it. Move-only.
class Sequence {
 public:
  explicit Sequence(const Runtime& rt) : rt_(rt.get()) { check(td_seq_create(rt_, &id_)); }
  Sequence(Sequence&& other) noexcept : rt_(other.rt_), id_(std::exchange(other.id_, 0)) {}
  Sequence& operator=(Sequence&& other) noexcept {
    std::swap(rt_, other.rt_);
    std::swap(id_, other.id_);
    return *this;
  }
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;
  ~Sequence() {
    if (id_ != 0) td_seq_destroy(rt_, id_);
  }

  [[nodiscard]] td_seq id() const noexcept { return id_; }
  /// See td_seq_fork.
  [[nodiscard]] Sequence fork(std::int64_t num_tokens = -1, const td_selector* selector = nullptr) const {
    Sequence copy(rt_, 0);
    check(td_seq_fork(rt_, id_, num_tokens, selector, &copy.id_));
    return copy;
  }
  void truncate(std::int64_t num_tokens) { check(td_seq_truncate(rt_, id_, num_tokens)); }
  /// See td_seq_evict.
  void evict(std::int64_t first, std::int64_t num_tokens) { check(td_seq_evict(rt_, id_, first, num_tokens)); }
  [[nodiscard]] std::int64_t length(std::int32_t layer) const {
    std::int64_t tokens = 0;
    check(td_seq_length(rt_, id_, layer, &tokens));
    return tokens;
  }
  [[nodiscard]] td_seq_info info(std::int32_t layer) const {
    auto info = make<td_seq_info>();
    check(td_seq_query(rt_, id_, layer, &info));
    return info;
  }

 private:
  Sequence(td_rt* rt, td_seq id) : rt_(rt), id_(id) {}
  td_rt* rt_;
  td_seq id_ = 0;
};

}  // namespace td
