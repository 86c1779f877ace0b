#pragma once

#include <cstdint>
#include <initializer_list>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tandem/tandem.h"

namespace c_api {

/// The model of these tests: two layers, four query heads on two KV heads.
inline constexpr std::int32_t kLayers = 2;
inline constexpr std::int32_t kQHeads = 4;
inline constexpr std::int32_t kKvHeads = 2;
inline constexpr std::int32_t kDim = 16;
inline constexpr std::int32_t kSinks = 4;
inline constexpr std::int32_t kLocal = 32;

template <typename Struct>
Struct init() {
  Struct s;
  TD_INIT(s);
  return s;
}

inline td_config config() {
  auto c = init<td_config>();
  c.abi = TANDEM_ABI;
  c.num_layers = kLayers;
  c.num_q_heads = kQHeads;
  c.num_kv_heads = kKvHeads;
  c.head_dim_k = kDim;
  c.sink_tokens = kSinks;
  c.local_tokens = kLocal;
  c.num_threads = 2;
  c.never_slower = TD_OFF;  // a few hundred tokens would be attended densely
  return c;
}

inline td_selector lsh_selector(int bits = 4, int tables = 20) {
  auto s = init<td_selector>();
  s.kind = TD_SELECT_LSH;
  s.lsh_bits = bits;
  s.lsh_tables = tables;
  s.seed = 7;
  return s;
}

/// (tokens, heads, dim), dense.
inline td_tensor tensor(const std::vector<float>& data, std::int64_t heads, std::int64_t dim = kDim) {
  const std::int64_t tokens = static_cast<std::int64_t>(data.size()) / (heads * dim);
  return {const_cast<float*>(data.data()), {tokens, heads, dim}, {0, 0}, TD_F32, 0};
}

inline std::vector<float> normals(std::uint32_t seed, std::int64_t count) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& x : values) x = normal(generator);
  return values;
}

/// A runtime that ends with the test.
class Rt {
 public:
  explicit Rt(const td_config& c) { EXPECT_EQ(td_create(&c, &rt_), TD_OK) << td_last_error(); }
  explicit Rt(const std::string& json) { EXPECT_EQ(td_create_json(json.c_str(), &rt_), TD_OK) << td_last_error(); }
  Rt(const Rt&) = delete;
  Rt& operator=(const Rt&) = delete;
  ~Rt() { td_destroy(rt_); }
  operator td_rt*() const { return rt_; }  // NOLINT: tests read better

 private:
  td_rt* rt_ = nullptr;
};

inline td_seq create(td_rt* rt) {
  td_seq seq = 0;
  EXPECT_EQ(td_seq_create(rt, &seq), TD_OK) << td_last_error();
  return seq;
}

/// An append or attend call with everything it points to; change `args` to make it a bad one.
struct Append {
  std::vector<td_seq> seqs;
  std::vector<std::int64_t> counts;
  std::vector<float> k, v, q;
  td_append_args args = init<td_append_args>();

  Append(std::vector<td_seq> sequences, std::vector<std::int64_t> tokens, std::uint32_t seed, std::int32_t layer = 0)
      : seqs(std::move(sequences)), counts(std::move(tokens)) {
    std::int64_t total = 0;
    for (const std::int64_t n : counts) total += n;
    k = normals(seed, total * kKvHeads * kDim);
    v = normals(seed + 1, total * kKvHeads * kDim);
    args.layer = layer;
    args.num_seqs = static_cast<std::int32_t>(seqs.size());
    args.seqs = seqs.data();
    args.num_tokens = counts.data();
    args.k = tensor(k, kKvHeads);
    args.v = tensor(v, kKvHeads);
  }
  Append(const Append&) = delete;
  Append& operator=(const Append&) = delete;
  /// Adds the optional queries.
  void with_queries() {
    q = normals(5, static_cast<std::int64_t>(k.size()) * kQHeads / kKvHeads);
    args.q = tensor(q, kQHeads);
  }
  td_status run(td_rt* rt) { return td_append(rt, &args); }
};

struct Attend {
  std::vector<td_seq> seqs;
  std::vector<std::int64_t> counts;
  std::vector<float> q, out, lse, sinks, alibi;
  td_attend_args args = init<td_attend_args>();

  Attend(std::vector<td_seq> sequences, std::vector<std::int64_t> queries, std::uint32_t seed, std::int32_t layer = 0)
      : seqs(std::move(sequences)), counts(std::move(queries)) {
    std::int64_t total = 0;
    for (const std::int64_t n : counts) total += n;
    q = normals(seed, total * kQHeads * kDim);
    out.assign(q.size(), -77.f);
    lse.assign(static_cast<std::size_t>(total * kQHeads), -77.f);
    sinks.assign(kQHeads, 0.5f);
    alibi.assign(kQHeads, 0.01f);
    args.layer = layer;
    args.parts = TD_PART_ALL;
    args.num_seqs = static_cast<std::int32_t>(seqs.size());
    args.seqs = seqs.data();
    args.num_queries = counts.data();
    args.q = tensor(q, kQHeads);
    args.out = tensor(out, kQHeads);
    args.lse = lse.data();
  }
  Attend(const Attend&) = delete;
  Attend& operator=(const Attend&) = delete;
  td_status run(td_rt* rt) { return td_attend(rt, &args); }
};

/// Appends the same `tokens` to every layer of one sequence.
inline void fill(td_rt* rt, td_seq seq, std::int64_t tokens, std::uint32_t seed) {
  for (std::int32_t layer = 0; layer < kLayers; ++layer) {
    ASSERT_EQ(Append({seq}, {tokens}, seed, layer).run(rt), TD_OK) << td_last_error();
  }
}

/// out, then lse, of the last `queries` tokens of one layer.
inline std::vector<float> attended(td_rt* rt, td_seq seq, std::int64_t queries = 2, std::int32_t layer = 0) {
  Attend attend({seq}, {queries}, 99, layer);
  EXPECT_EQ(attend.run(rt), TD_OK) << td_last_error();
  attend.out.insert(attend.out.end(), attend.lse.begin(), attend.lse.end());
  return attend.out;
}

/// The resolved configuration as JSON.
inline std::string config_text(td_rt* rt) {
  char text[8192];
  std::size_t needed = 0;
  EXPECT_EQ(td_describe(rt, text, sizeof(text), &needed), TD_OK);
  const std::string whole = text;
  const std::size_t begin = whole.find("\"config\":{") + 9;
  std::size_t end = begin;
  for (int depth = 0; depth > 0 || end == begin; ++end) depth += whole[end] == '{' ? 1 : whole[end] == '}' ? -1 : 0;
  return whole.substr(begin, end - begin);
}

/// What a failed call must leave as it was: the figures of every layer and the bits of attention.
struct Snapshot {
  std::vector<std::int64_t> figures;
  std::vector<double> build_us;
  std::vector<float> outputs;

  Snapshot(td_rt* rt, std::initializer_list<td_seq> seqs, bool attend = true) {
    for (const td_seq seq : seqs) {
      for (std::int32_t layer = 0; layer < kLayers; ++layer) {
        auto info = init<td_seq_info>();
        EXPECT_EQ(td_seq_query(rt, seq, layer, &info), TD_OK) << td_last_error();
        figures.insert(figures.end(), {info.length, info.window_rows, info.host_rows, info.kv_bytes, info.index_bytes,
                                       info.coded_rows, info.dropped_rows, info.window_entries});
        build_us.push_back(info.index_build_us);
        if (!attend || info.length < 2) continue;
        const auto values = attended(rt, seq, 2, layer);
        outputs.insert(outputs.end(), values.begin(), values.end());
      }
    }
  }
  friend bool operator==(const Snapshot&, const Snapshot&) = default;
};

}  // namespace c_api
