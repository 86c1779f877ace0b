// Structs of callers that were compiled against an older or a newer header.
#include <cstring>
#include <limits>

#include "tests/c_api/driver.h"

namespace c_api {
namespace {

/// A struct as a newer header would have it: more bytes at the end.
template <typename Struct>
struct Longer {
  Struct known;
  unsigned char tail[16];

  explicit Longer(const Struct& s) {
    std::memset(static_cast<void*>(this), 0, sizeof(*this));
    std::memcpy(static_cast<void*>(&known), &s, sizeof(s));
    known.size = sizeof(*this);
  }
};

class StructSizes : public testing::Test {
 protected:
  StructSizes() { fill(rt_, seq_, 200, 1); }

  template <typename Struct, typename Call>
  void expect_rules(const char* name, const Struct& good, Call call) {
    Struct s = good;
    for (const std::uint32_t bad : {0u, 1u, 3u, std::numeric_limits<std::uint32_t>::max(), 1u << 20}) {
      s.size = bad;
      EXPECT_EQ(call(&s), TD_EINVAL) << name << " of size " << bad;
      EXPECT_THAT(td_last_error(), testing::HasSubstr(name + std::string(".size is ") + std::to_string(bad)));
    }
    if constexpr (requires { s.reserved; }) {
      s = good;
      s.reserved = 7;
      EXPECT_EQ(call(&s), TD_EINVAL) << name;
      EXPECT_THAT(td_last_error(), testing::HasSubstr(name + std::string(".reserved is 7; it must be 0")));
    }
    Longer<Struct> longer(good);
    EXPECT_EQ(call(&longer.known), TD_OK) << td_last_error();
    for (const std::size_t i : {std::size_t{0}, sizeof(longer.tail) - 1}) {
      longer.tail[i] = 1;
      EXPECT_EQ(call(&longer.known), TD_EUNSUPPORTED) << name;
      EXPECT_THAT(td_last_error(), testing::HasSubstr(name + std::string(" uses a field that this version")));
      longer.tail[i] = 0;
    }
  }

  Rt rt_{config()};
  td_seq seq_ = create(rt_);
};

TEST_F(StructSizes, Config) {
  expect_rules("config", config(), [](const td_config* c) {
    td_rt* rt = nullptr;
    const td_status status = td_create(c, &rt);
    EXPECT_EQ(rt != nullptr, status == TD_OK);
    td_destroy(rt);
    return status;
  });
}

TEST_F(StructSizes, EveryReservedFieldOfAConfigMustBeZero) {
  for (std::int32_t td_config::*field : {&td_config::reserved, &td_config::reserved2, &td_config::reserved3}) {
    td_config c = config();
    c.*field = -1;
    td_rt* rt = nullptr;
    EXPECT_EQ(td_create(&c, &rt), TD_EINVAL);
    EXPECT_THAT(td_last_error(), testing::ContainsRegex("config.reserved[23]? is -1; it must be 0"));
  }
}

/// Of what a config points to.
template <typename Struct>
td_status create_with(const Struct* td_config::*member, const Struct* s) {
  td_config c = config();
  c.*member = s;
  td_rt* rt = nullptr;
  const td_status status = td_create(&c, &rt);
  EXPECT_EQ(rt != nullptr, status == TD_OK);
  td_destroy(rt);
  return status;
}

TEST_F(StructSizes, WindowCodec) {
  expect_rules("window_codec", init<td_codec>(),
               [](const td_codec* s) { return create_with(&td_config::window_codec, s); });
}

TEST_F(StructSizes, WindowPolicy) {
  auto policy = init<td_window_policy>();
  policy.kind = TD_POLICY_HEAVY_HITTERS;
  policy.kept_tokens = 8;
  expect_rules("window_policy", policy,
               [](const td_window_policy* s) { return create_with(&td_config::window_policy, s); });
}

TEST_F(StructSizes, Selector) {
  expect_rules("selector", lsh_selector(), [this](const td_selector* s) {
    td_seq fork = 0;
    return td_seq_fork(rt_, seq_, -1, s, &fork);
  });
}

TEST_F(StructSizes, AppendArgs) {
  Append append({seq_}, {2}, 3);
  expect_rules("args", append.args, [this](const td_append_args* a) { return td_append(rt_, a); });
}

TEST_F(StructSizes, AttendArgs) {
  Attend attend({seq_}, {2}, 3);
  expect_rules("args", attend.args, [this](const td_attend_args* a) { return td_attend(rt_, a); });
}

TEST_F(StructSizes, PoolsAndTheirCalls) {
  const std::vector<float> rows = normals(1, 50 * kKvHeads * kDim), q = normals(2, kQHeads * kDim);
  std::vector<float> out(q.size());
  auto pool_args = init<td_pool_args>();
  pool_args.k = pool_args.v = tensor(rows, kKvHeads);
  td_pool pool = 0;
  expect_rules("args", pool_args, [&](const td_pool_args* a) { return td_pool_bind(rt_, a, &pool); });
  const std::int64_t seen[] = {3, 9}, begin[] = {0, 2};
  auto visible = init<td_visibility>();
  visible.kind = TD_VISIBLE_ROWS;
  visible.num_queries = 1;
  visible.rows = seen;
  visible.row_begin = begin;
  auto args = init<td_attend_rows_args>();
  args.pool = pool;
  args.visible = &visible;
  args.q = tensor(q, kQHeads);
  args.out = tensor(out, kQHeads);
  expect_rules("args", args, [&](const td_attend_rows_args* a) { return td_attend_rows(rt_, a); });
  expect_rules("visible", visible, [&](const td_visibility* v) {
    args.visible = v;
    return td_attend_rows(rt_, &args);
  });
  td_pool_info info;
  std::memset(&info, 0x5a, sizeof(info));
  info.size = offsetof(td_pool_info, index_bytes);
  ASSERT_EQ(td_pool_query(rt_, pool, &info), TD_OK);
  EXPECT_EQ(info.indexed_rows, 0);
  EXPECT_EQ(info.index_bytes, 0x5a5a5a5a5a5a5a5a);
}

TEST_F(StructSizes, FieldsBeyondAnOlderStructAreZero) {
  td_config c = config();
  c.isa = reinterpret_cast<const char*>(1);  // not read, or this crashes
  c.selector = reinterpret_cast<const td_selector*>(1);
  c.size = offsetof(td_config, isa);
  td_rt* rt = nullptr;
  ASSERT_EQ(td_create(&c, &rt), TD_OK) << td_last_error();
  td_destroy(rt);
  Attend attend({seq_}, {1}, 3);
  attend.args.size = offsetof(td_attend_args, sinks);
  attend.args.sinks = attend.args.alibi = reinterpret_cast<const float*>(1);
  attend.args.sliding_window = -5;
  attend.args.stats = reinterpret_cast<td_stats*>(1);
  EXPECT_EQ(attend.run(rt_), TD_OK) << td_last_error();
  c.size = 8;  // a size that holds no shape yet
  EXPECT_EQ(td_create(&c, &rt), TD_EINVAL);
  EXPECT_STREQ(td_last_error(), "num_layers is 0; allowed: 1 to 65536");
}

TEST_F(StructSizes, StatsOfAnyVersionAreWrittenWithinTheirSize) {
  const auto attend_with = [this](td_stats* stats) {
    Attend attend({seq_}, {1}, 3);
    attend.args.stats = stats;
    return attend.run(rt_);
  };
  td_stats stats;
  for (const std::uint32_t size : {4u, 8u, static_cast<std::uint32_t>(offsetof(td_stats, rows_host))}) {
    std::memset(&stats, 0x5a, sizeof(stats));
    stats.size = size;
    ASSERT_EQ(attend_with(&stats), TD_OK) << td_last_error();
    EXPECT_EQ(stats.size, size);
    const auto* bytes = reinterpret_cast<const unsigned char*>(&stats);
    for (std::size_t i = size; i < sizeof(stats); ++i) ASSERT_EQ(bytes[i], 0x5a) << i;
  }
  Longer<td_stats> longer(init<td_stats>());
  std::memset(longer.tail, 0x5a, sizeof(longer.tail));
  ASSERT_EQ(attend_with(&longer.known), TD_OK) << td_last_error();
  EXPECT_GT(longer.known.rows_host, 0);
  EXPECT_EQ(longer.known.size, sizeof(longer));
  EXPECT_EQ(longer.tail[0], 0x5a);
  stats.size = 0;
  const Snapshot before(rt_, {seq_});
  EXPECT_EQ(attend_with(&stats), TD_EINVAL);
  EXPECT_THAT(td_last_error(), testing::HasSubstr("stats.size is 0"));
  Append append({seq_}, {1}, 3);
  append.args.stats = &stats;
  EXPECT_EQ(append.run(rt_), TD_EINVAL);
  EXPECT_EQ(Snapshot(rt_, {seq_}), before);
}

TEST_F(StructSizes, InfoOfAnyVersionIsWrittenWithinItsSize) {
  td_seq_info info;
  std::memset(&info, 0x5a, sizeof(info));
  info.size = offsetof(td_seq_info, host_rows);
  ASSERT_EQ(td_seq_query(rt_, seq_, 0, &info), TD_OK);
  EXPECT_EQ(info.length, 200);
  EXPECT_EQ(info.host_rows, 0x5a5a5a5a5a5a5a5a);
  info.size = 0;
  EXPECT_EQ(td_seq_query(rt_, seq_, 0, &info), TD_EINVAL);
  EXPECT_THAT(td_last_error(), testing::HasSubstr("info.size is 0"));
}

}  // namespace
}  // namespace c_api
