// Borrowed rows through the C ABI: what a call gives, every bad call, and pools that come and go.
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <thread>
#include <utility>

#include "tests/c_api/driver.h"

namespace c_api {
namespace {

constexpr std::int64_t kRows = 3000;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

td_selector sketch() {
  auto s = init<td_selector>();
  s.kind = TD_SELECT_SKETCH;
  s.budget = 0.05;
  return s;
}

/// A pool of kRows rows, and a call of two queries that see the first 1,500 and 2,500 of them.
class Pools : public testing::Test {
 protected:
  Pools() {
    args_ = init<td_pool_args>();
    args_.layer = 1;
    args_.k = tensor(k_, kKvHeads);
    args_.v = tensor(v_, kKvHeads);
    EXPECT_EQ(td_pool_bind(rt_, &args_, &pool_), TD_OK) << td_last_error();
    std::iota(rows_.begin(), rows_.end(), 0);
    std::iota(rows_.begin() + 1500, rows_.end(), 0);
    visible_ = init<td_visibility>();
    visible_.kind = TD_VISIBLE_ROWS;
    visible_.num_queries = 2;
    visible_.rows = rows_.data();
    visible_.row_begin = begin_.data();
    attend_ = init<td_attend_rows_args>();
    attend_.pool = pool_;
    attend_.visible = &visible_;
    attend_.q = tensor(q_, kQHeads);
    attend_.out = tensor(out_, kQHeads);
    attend_.lse = lse_.data();
    attend_.error = error_.data();
    attend_.certified = certified_.data();
    stats_ = init<td_stats>();
    attend_.stats = &stats_;
  }

  void refuse(const std::string& message, const std::function<void(td_attend_rows_args&, td_visibility&)>& spoil,
              td_status status = TD_EINVAL) {
    td_attend_rows_args args = attend_;
    td_visibility visible = visible_;
    args.visible = &visible;
    spoil(args, visible);
    const auto out = out_;
    EXPECT_EQ(td_attend_rows(rt_, &args), status) << message;
    EXPECT_THAT(td_last_error(), testing::HasSubstr(message));
    EXPECT_EQ(out_, out) << message << ": out was written";
    td_call call = 0;
    const td_status begun = td_attend_rows_begin(rt_, &args, &call);
    if (begun == TD_OK) {
      EXPECT_EQ(td_call_wait(rt_, call), status) << message;
    } else {
      EXPECT_EQ(begun, status) << message;
    }
    EXPECT_THAT(td_last_error(), testing::HasSubstr(message));
  }
  void refuse_bind(const std::string& message, const std::function<void(td_pool_args&)>& spoil,
                   td_status status = TD_EINVAL) {
    td_pool_args args = args_;
    spoil(args);
    td_pool pool = 77;
    EXPECT_EQ(td_pool_bind(rt_, &args, &pool), status) << message;
    EXPECT_THAT(td_last_error(), testing::HasSubstr(message));
    EXPECT_EQ(pool, 77u);
  }

  static td_config config_with(const td_selector* selector) {
    td_config c = config();
    c.selector = selector;
    return c;
  }
  const td_selector selector_ = sketch();
  Rt rt_{config_with(&selector_)};
  std::vector<float> k_ = normals(1, kRows*kKvHeads*kDim), v_ = normals(2, kRows*kKvHeads*kDim);
  std::vector<float> q_ = normals(3, 2 * kQHeads * kDim), out_ = std::vector<float>(q_.size(), 7.f);
  std::vector<float> lse_ = std::vector<float>(2 * kQHeads), error_ = lse_;
  std::vector<std::uint8_t> certified_ = std::vector<std::uint8_t>(2 * kQHeads);
  std::vector<std::int64_t> rows_ = std::vector<std::int64_t>(4000), begin_ = {0, 1500, 4000};
  td_pool_args args_;
  td_pool pool_ = 0;
  td_visibility visible_;
  td_attend_rows_args attend_;
  td_stats stats_;
};

TEST_F(Pools, GiveWhatASequenceWithTheSameTokensGives) {
  ASSERT_EQ(td_attend_rows(rt_, &attend_), TD_OK) << td_last_error();
  EXPECT_EQ(stats_.keys_visible, 4000 * kQHeads);
  EXPECT_EQ(stats_.keys_attended, 4000 * kQHeads);  // no sketch yet
  for (const float e : error_) EXPECT_EQ(e, 0.f);
  for (const std::uint8_t c : certified_) EXPECT_EQ(c, 1);
  const std::int64_t lengths[] = {1500, 2500};
  for (std::size_t i = 0; i < 2; ++i) {
    const td_seq seq = create(rt_);
    Append append({seq}, {lengths[i]}, 5, 1);
    append.k.assign(k_.begin(), k_.begin() + lengths[i] * kKvHeads * kDim);
    append.v.assign(v_.begin(), v_.begin() + lengths[i] * kKvHeads * kDim);
    append.args.k = tensor(append.k, kKvHeads);
    append.args.v = tensor(append.v, kKvHeads);
    ASSERT_EQ(append.run(rt_), TD_OK) << td_last_error();
    Attend attend({seq}, {1}, 5, 1);
    attend.q.assign(q_.begin() + static_cast<std::ptrdiff_t>(i) * kQHeads * kDim,
                    q_.begin() + static_cast<std::ptrdiff_t>(i + 1) * kQHeads * kDim);
    attend.args.q = tensor(attend.q, kQHeads);
    attend.args.parts = TD_PART_ALL | TD_EXACT;
    ASSERT_EQ(attend.run(rt_), TD_OK) << td_last_error();
    for (std::size_t j = 0; j < attend.out.size(); ++j)
      EXPECT_NEAR(out_[i * attend.out.size() + j], attend.out[j], 2e-6);
    for (std::size_t j = 0; j < attend.lse.size(); ++j)
      EXPECT_NEAR(lse_[i * attend.lse.size() + j], attend.lse[j], 2e-6);
  }
}

TEST_F(Pools, AreListedAndForgotten) {
  for (int i = 0; i < 40; ++i) ASSERT_EQ(td_attend_rows(rt_, &attend_), TD_OK) << td_last_error();
  auto info = init<td_pool_info>();
  ASSERT_EQ(td_pool_query(rt_, pool_, &info), TD_OK);
  EXPECT_EQ(info.num_lists, 1);  // the one query sees the first rows of the other
  EXPECT_GT(info.indexed_rows, 2300);
  EXPECT_GT(info.index_bytes, 0);
  k_[static_cast<std::size_t>(1200 * kKvHeads * kDim)] += 1.f;
  std::int64_t stale = 0;
  ASSERT_EQ(td_rows_verify(rt_, pool_, &stale), TD_OK);
  EXPECT_EQ(stale, 1);
  ASSERT_EQ(td_rows_verify(rt_, pool_, nullptr), TD_OK);
  ASSERT_EQ(td_attend_rows(rt_, &attend_), TD_OK);
  const std::int64_t row = 1100;
  ASSERT_EQ(td_rows_dropped(rt_, pool_, &row, 1), TD_OK);
  ASSERT_EQ(td_pool_query(rt_, pool_, &info), TD_OK);
  EXPECT_LE(info.indexed_rows, 1100);
  EXPECT_EQ(info.rows_found, 1);
  ASSERT_EQ(td_rows_dropped(rt_, pool_, nullptr, -1), TD_OK);
  ASSERT_EQ(td_pool_query(rt_, pool_, &info), TD_OK);
  EXPECT_EQ(info.num_lists, 0);
  EXPECT_EQ(info.index_bytes, 0);
  ASSERT_EQ(td_pool_unbind(rt_, pool_), TD_OK);
  EXPECT_EQ(td_attend_rows(rt_, &attend_), TD_ESTATE);
  EXPECT_THAT(td_last_error(), testing::HasSubstr("pool " + std::to_string(pool_) + " does not exist or was unbound"));
  EXPECT_EQ(td_pool_unbind(rt_, pool_), TD_ESTATE);
}

TEST_F(Pools, BadPoolsAreRefused) {
  refuse_bind("layer is 2; allowed: 0 to 1", [](td_pool_args& a) { a.layer = 2; });
  refuse_bind("probes is -2", [](td_pool_args& a) { a.probes = -2; });
  refuse_bind("k.dtype is 3; allowed: 0 (f32)", [](td_pool_args& a) { a.k.dtype = TD_INT8; });
  refuse_bind("k.dtype is 7", [](td_pool_args& a) { a.k.dtype = 7; });
  refuse_bind("k has 3 heads; expected 2", [](td_pool_args& a) { a.k.shape[1] = 3; });
  refuse_bind("k has 0 rows; at least one", [](td_pool_args& a) { a.k.shape[0] = 0; });
  refuse_bind("v has 2999 rows; expected 3000", [](td_pool_args& a) { --a.v.shape[0]; });
  refuse_bind("v has 8 elements per row (head_dim); expected 16", [](td_pool_args& a) { a.v.shape[2] = 8; });
  refuse_bind("k.data is NULL", [](td_pool_args& a) { a.k.data = nullptr; });
  refuse_bind(
      "k.memory is 1 (TD_MEMORY_DEVICE)", [](td_pool_args& a) { a.k.memory = TD_MEMORY_DEVICE; }, TD_EUNSUPPORTED);
  refuse_bind(
      "v.dtype is bf16 and k.dtype f16; they must be the same",
      [](td_pool_args& a) {
        a.k.dtype = TD_F16;
        a.v.dtype = TD_BF16;
      },
      TD_EUNSUPPORTED);
  refuse_bind(
      "k has 16 elements per row (head_dim) of dtype q8_0; allowed: multiples of 32",
      [](td_pool_args& a) { a.k.dtype = a.v.dtype = TD_Q8_0; }, TD_EUNSUPPORTED);
  refuse_bind("k.stride[0] (rows) is 32 bytes; allowed: 64 to", [](td_pool_args& a) { a.k.stride[0] = 32; });
  refuse_bind(
      "v.stride[0] is 256 bytes; it must be that of k, 128",
      [](td_pool_args& a) {
        a.v.stride[0] = 256;
        a.v.stride[1] = 64;
      },
      TD_EUNSUPPORTED);
  refuse_bind("args.size is 0", [](td_pool_args& a) { a.size = 0; });
}

TEST_F(Pools, BadCallsAreRefused) {
  refuse("visible is NULL", [](auto& a, auto&) { a.visible = nullptr; });
  refuse("visible.kind is 3", [](auto&, auto& v) { v.kind = 3; });
  refuse("visible.num_queries is 0", [](auto&, auto& v) { v.num_queries = 0; });
  refuse("q has 2 tokens; expected 1", [](auto&, auto& v) { v.num_queries = 1; });
  refuse("out has 5 heads; expected 4", [](auto& a, auto&) { a.out.shape[1] = 5; });
  refuse("visible.rows is NULL", [](auto&, auto& v) { v.rows = nullptr; });
  refuse("visible.row_begin is NULL", [](auto&, auto& v) { v.row_begin = nullptr; });
  refuse(
      "q and out of td_attend_rows must be in host memory", [](auto& a, auto&) { a.out.memory = TD_MEMORY_DEVICE; },
      TD_EUNSUPPORTED);
  refuse(
      "q and out of td_attend_rows must be in host memory",
      [](auto& a, auto&) {
        a.q.memory = TD_MEMORY_DEVICE;
        a.q.data = reinterpret_cast<void*>(64);  // not read, or this crashes
      },
      TD_EUNSUPPORTED);
  refuse("out of token 0, head 0 overlaps q", [](auto& a, auto&) { a.out = a.q; });
  refuse("out of token 0, head 0 overlaps k of the pool", [&](auto& a, auto&) { a.out.data = k_.data(); });
  refuse("out of token 0, head 0 overlaps v of the pool", [&](auto& a, auto&) { a.out.data = v_.data() + 7; });
  const std::int64_t backwards[] = {0, 10, 5};
  refuse("visible.row_begin[1] and [2] are 10 and 5", [&](auto&, auto& v) { v.row_begin = backwards; });
  rows_[17] = kRows;
  refuse("visible.rows[17] is 3000; allowed: 0 to 2999", [](auto&, auto&) {});
  rows_[17] = 17;
  q_[5] = kNaN;
  refuse("q holds NaN or infinity in token 0, head 0", [](auto&, auto&) {});
  q_[5] = 0.f;
  const float factors[] = {1.f, kNaN, 1.f, 1.f};
  refuse("alibi[1] is nan", [&](auto& a, auto&) { a.alibi = factors; });
  const float sinks[] = {1.f, 1.f, std::numeric_limits<float>::infinity(), 1.f};
  refuse("sinks[2] is inf", [&](auto& a, auto&) { a.sinks = sinks; });
  std::vector<std::uint16_t> mask(2 * 100, 0);
  const auto masked = [&](td_visibility& v) {
    v.kind = TD_VISIBLE_MASK;
    v.mask = mask.data();
    v.num_columns = 100;
  };
  const std::int64_t first[] = {0, kRows - 99};
  refuse("visible.first_row[1] is 2901; allowed: 0 to 2900", [&](auto&, auto& v) {
    masked(v);
    v.first_row = first;
  });
  refuse("visible.num_columns is 3001; allowed: 0 to 3000", [&](auto&, auto& v) {
    masked(v);
    v.num_columns = 3001;
  });
  refuse("visible.mask_stride is 100 bytes; allowed: even, 200 or more", [&](auto&, auto& v) {
    masked(v);
    v.mask_stride = 100;
  });
  mask[150] = 0x7c00;
  refuse("mask[1][50] is +inf; allowed: finite values", [&](auto&, auto& v) { masked(v); });
  mask[150] = 0x7e00;
  refuse("mask[1][50] is NaN", [&](auto&, auto& v) { masked(v); });
  const std::int32_t blocks[] = {0, 200};
  const std::int64_t tokens[] = {16, 16};
  const auto blocked = [&](td_visibility& v) {
    v.kind = TD_VISIBLE_BLOCKS;
    v.blocks = blocks;
    v.block_stride = 1;
    v.block_size = 16;
    v.num_tokens = tokens;
  };
  refuse("visible.blocks of query 1 has block 200 for token 0; allowed: blocks of rows below 3000",
         [&](auto&, auto& v) { blocked(v); });
  refuse("visible.block_size is 0", [&](auto&, auto& v) {
    blocked(v);
    v.block_size = 0;
  });
  refuse("visible.num_tokens is NULL", [&](auto&, auto& v) {
    blocked(v);
    v.num_tokens = nullptr;
  });
  const std::int64_t rows[] = {3, -1};
  EXPECT_EQ(td_rows_written(rt_, pool_, rows, 2), TD_EINVAL);
  EXPECT_THAT(td_last_error(), testing::HasSubstr("rows[1] is -1; allowed: 0 to 2999"));
  EXPECT_EQ(td_rows_written(rt_, pool_, nullptr, 2), TD_EINVAL);
  EXPECT_EQ(td_rows_written(rt_, pool_, rows, -1), TD_EINVAL);
  EXPECT_EQ(td_rows_written(rt_, pool_ + 1, rows, 1), TD_ESTATE);
  ASSERT_EQ(td_attend_rows(rt_, &attend_), TD_OK) << td_last_error();  // and nothing has changed
}

TEST_F(Pools, RowsThatAreNotFiniteAreFound) {
  for (int i = 0; i < 40; ++i) ASSERT_EQ(td_attend_rows(rt_, &attend_), TD_OK) << td_last_error();
  attend_.exact = 1;
  ASSERT_EQ(td_attend_rows(rt_, &attend_), TD_OK) << td_last_error();
  const auto expected = out_;
  auto info = init<td_pool_info>();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const std::int64_t row : {0, 1703, 2499}) {
    const std::size_t query = row < 1500 ? 0 : 1, element = static_cast<std::size_t>((row * kKvHeads + 1) * kDim + 5);
    const float q = q_[(query * kQHeads + 2) * kDim + 5];
    // An infinite key hides its row from queries whose product with it is -inf, as a mask would.
    for (const auto& [tensor, value] :
         {std::pair{&k_, std::copysign(infinity, q)}, {&v_, kNaN}, {&v_, infinity}, {&v_, -infinity}}) {
      const float kept = std::exchange((*tensor)[element], value);
      EXPECT_EQ(td_attend_rows(rt_, &attend_), TD_EINVAL) << (tensor == &k_ ? "k " : "v ") << value << ' ' << row;
      EXPECT_THAT(td_last_error(), testing::HasSubstr("out of query " + std::to_string(query) + ", head "));
      ASSERT_EQ(td_pool_query(rt_, pool_, &info), TD_OK);
      EXPECT_EQ(info.num_lists, 0);
      (*tensor)[element] = kept;
      ASSERT_EQ(td_attend_rows(rt_, &attend_), TD_OK) << td_last_error();
      EXPECT_EQ(out_, expected);
    }
  }
  // A row gets no weight where its product with the query is NaN.
  const float kept = std::exchange(k_[(1703 * kKvHeads + 1) * kDim + 5], kNaN);
  ASSERT_EQ(td_attend_rows(rt_, &attend_), TD_OK) << td_last_error();
  EXPECT_NE(out_, expected);
  for (const float x : out_) ASSERT_TRUE(std::isfinite(x));
  k_[(1703 * kKvHeads + 1) * kDim + 5] = kept;
  // What no query sees may hold anything.
  k_[static_cast<std::size_t>(2500 * kKvHeads * kDim)] = v_.back() = kNaN;
  ASSERT_EQ(td_attend_rows(rt_, &attend_), TD_OK) << td_last_error();
  EXPECT_EQ(out_, expected);
}

TEST_F(Pools, WorkSideBySide) {
  constexpr int kPools = 4;
  std::vector<std::thread> threads;
  std::vector<std::vector<float>> outs(kPools, out_);
  for (std::size_t i = 0; i < kPools; ++i) {
    threads.emplace_back([this, &outs, i] {
      td_pool pool = 0;
      ASSERT_EQ(td_pool_bind(rt_, &args_, &pool), TD_OK);
      td_attend_rows_args args = attend_;
      args.pool = pool;
      args.out = tensor(outs[i], kQHeads);
      args.lse = args.error = nullptr;
      args.certified = nullptr;
      args.stats = nullptr;
      for (int step = 0; step < 40; ++step) ASSERT_EQ(td_attend_rows(rt_, &args), TD_OK) << td_last_error();
      ASSERT_EQ(td_pool_unbind(rt_, pool), TD_OK);
    });
  }
  for (std::thread& t : threads) t.join();
  for (const auto& out : outs) EXPECT_EQ(out, outs[0]);
}

}  // namespace
}  // namespace c_api
