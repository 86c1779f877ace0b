// Every bad append, attend, fork and truncate: an error that says what is wrong, and nothing changes.
#include <functional>
#include <limits>

#include "tests/c_api/driver.h"

namespace c_api {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::int64_t kTokens = 200;
constexpr std::int64_t kMaxTokens = 250;
constexpr std::int64_t kRowBytes = kDim * 4;

td_config limited() {
  td_config c = config();
  c.max_tokens = kMaxTokens;
  return c;
}

/// Two sequences of 200 tokens in a runtime whose longest is 250, and a destroyed one.
class BadInput : public testing::Test {
 protected:
  BadInput() {
    fill(rt_, a_, kTokens, 1);
    fill(rt_, b_, kTokens, 2);
    EXPECT_EQ(td_seq_destroy(rt_, destroyed_), TD_OK);
  }

  /// `call` must fail with `status` and `message`, and leave both sequences as they were.
  void expect_refused(const std::string& message, td_status status, const std::function<td_status()>& call) {
    const Snapshot before(rt_, {a_, b_});
    EXPECT_EQ(call(), status) << "expected: " << message << "\ngot: " << td_last_error();
    EXPECT_THAT(td_last_error(), testing::HasSubstr(message));
    EXPECT_EQ(Snapshot(rt_, {a_, b_}), before) << message;
  }
  void refuse_append(const std::string& message, const std::function<void(Append&)>& spoil,
                     td_status status = TD_EINVAL) {
    Append append({a_, b_}, {2, 3}, 9);
    append.with_queries();
    spoil(append);
    expect_refused(message, status, [&] { return append.run(rt_); });
  }
  void refuse_attend(const std::string& message, const std::function<void(Attend&)>& spoil,
                     td_status status = TD_EINVAL) {
    Attend attend({a_, b_}, {2, 3}, 9);
    spoil(attend);
    const auto out = attend.out;
    const auto lse = attend.lse;
    expect_refused(message, status, [&] { return attend.run(rt_); });
    EXPECT_EQ(attend.out, out) << message << ": out was written";
    EXPECT_EQ(attend.lse, lse) << message << ": lse was written";
  }
  /// What is wrong with any tensor (5 tokens) of any call. `set` runs the call with tensor `name` replaced.
  void refuse_tensors(const std::string& name, td_tensor good,
                      const std::function<void(const std::string&, td_tensor)>& set) {
    const auto with = [&](auto change) {
      td_tensor t = good;
      change(t);
      return t;
    };
    const std::int64_t heads = good.shape[1];
    const auto text = [](std::int64_t n) { return std::to_string(n); };
    set(name + " has 4 tokens; expected 5", with([](td_tensor& t) { t.shape[0] = 4; }));
    set(name + " has 0 tokens; expected 5", with([](td_tensor& t) { t.shape[0] = 0; }));
    set(name + " has " + text(heads + 1) + " heads; expected " + text(heads), with([](td_tensor& t) { ++t.shape[1]; }));
    set(name + " has 8 elements per row (head_dim); expected 16", with([](td_tensor& t) { t.shape[2] = 8; }));
    constexpr std::int64_t kInt32Max = std::numeric_limits<std::int32_t>::max();
    constexpr std::int64_t kInt64Max = std::numeric_limits<std::int64_t>::max();
    const char* extents[] = {".shape[0] (tokens) is ", ".shape[1] (heads) is ", ".shape[2] (head_dim) is "};
    const std::int64_t most[] = {kInt32Max, kInt32Max, 1024};
    for (int i = 0; i < 3; ++i) {
      for (const std::int64_t bad : {-kInt64Max - 1, std::int64_t{-1}, most[i] + 1, kInt64Max}) {
        set(name + extents[i] + text(bad) + "; allowed: 0 to " + text(most[i]),
            with([&](td_tensor& t) { t.shape[i] = bad; }));
      }
    }
    // Each extent would be a count of its own, but the bytes of one token would not fit into 64 bits.
    set(name + ".shape[2] (head_dim) is " + text(kInt32Max) + "; allowed: 0 to 1024",
        with([&](td_tensor& t) { t.shape[1] = t.shape[2] = kInt32Max; }));
    set(name + " has " + text(kInt32Max) + " tokens; expected 5",
        with([&](td_tensor& t) { t.shape[0] = t.shape[1] = kInt32Max, t.shape[2] = 1024; }));
    set(name + ".dtype is 3; allowed: 0 (f32), 1 (f16), 2 (bf16)", with([](td_tensor& t) { t.dtype = 3; }));
    set(name + ".dtype is -1; allowed: 0 (f32), 1 (f16), 2 (bf16)", with([](td_tensor& t) { t.dtype = -1; }));
    for (const std::int64_t stride : {std::int64_t{0}, std::int64_t{4}, kRowBytes - 1, 1 - kRowBytes}) {
      set(name + ".stride[0] (tokens) is " + text(stride) + " bytes; rows of 64 bytes would overlap",
          with([&](td_tensor& t) { t.stride[0] = stride, t.stride[1] = kRowBytes; }));
      set(name + ".stride[1] (heads) is " + text(stride) + " bytes; rows of 64 bytes would overlap",
          with([&](td_tensor& t) { t.stride[0] = heads * kRowBytes, t.stride[1] = stride; }));
    }
    set(name + ".stride[0] (tokens) is -9223372036854775808 bytes",
        with([](td_tensor& t) { t.stride[0] = std::numeric_limits<std::int64_t>::min(), t.stride[1] = kRowBytes; }));
    set(name + ".stride[1] (heads) is 9223372036854775807 bytes",
        with([&](td_tensor& t) { t.stride[0] = kRowBytes, t.stride[1] = std::numeric_limits<std::int64_t>::max(); }));
  }

  Rt rt_{limited()};
  td_seq a_ = create(rt_);
  td_seq b_ = create(rt_);
  td_seq destroyed_ = create(rt_);
};

TEST_F(BadInput, TensorsOfAppend) {
  for (const auto& [name, member] :
       {std::pair{"k", &td_append_args::k}, {"v", &td_append_args::v}, {"q", &td_append_args::q}}) {
    const bool is_q = name[0] == 'q';
    const td_tensor good{nullptr, {5, is_q ? kQHeads : kKvHeads, kDim}, {0, 0}, TD_F32, 0};
    refuse_tensors(name, good, [&, m = member](const std::string& message, td_tensor t) {
      refuse_append(message, [&](Append& append) {
        t.data = (append.args.*m).data;
        append.args.*m = t;
      });
    });
  }
  refuse_append("k.data is NULL", [](Append& append) { append.args.k.data = nullptr; });
  refuse_append("v.data is NULL", [](Append& append) { append.args.v.data = nullptr; });
}

TEST_F(BadInput, TensorsOfAttend) {
  for (const auto& [name, member] : {std::pair{"q", &td_attend_args::q}, {"out", &td_attend_args::out}}) {
    refuse_tensors(name, {nullptr, {5, kQHeads, kDim}, {0, 0}, TD_F32, 0},
                   [&, m = member](const std::string& message, td_tensor t) {
                     refuse_attend(message, [&](Attend& attend) {
                       t.data = (attend.args.*m).data;
                       attend.args.*m = t;
                     });
                   });
  }
  refuse_attend("q.data is NULL", [](Attend& attend) { attend.args.q.data = nullptr; });
  refuse_attend("out.data is NULL", [](Attend& attend) { attend.args.out.data = nullptr; });
}

TEST_F(BadInput, RowsOfOutThatShareMemory) {
  refuse_attend("out.stride", [](Attend& attend) {
    attend.args.out.stride[0] = kRowBytes;  // token t, head h + 1 would be token t + 1, head h
    attend.args.out.stride[1] = kRowBytes;
  });
  refuse_attend("out.stride", [](Attend& attend) {
    attend.args.out.stride[0] = 2 * kRowBytes;
    attend.args.out.stride[1] = kRowBytes;
  });
}

TEST_F(BadInput, OutThatOverlapsAnInput) {
  // Of twice q's memory, in which out lies as well.
  const auto widen = [](Attend& attend) {
    attend.q.resize(2 * attend.q.size());
    attend.args.q.data = attend.args.out.data = attend.q.data();
  };
  const auto overlaps = [](const char* input, std::int64_t token, std::int64_t head) {
    return "out of token " + std::to_string(token) + ", head " + std::to_string(head) + " overlaps " + input;
  };
  refuse_attend(overlaps("q", 0, 0), [](Attend& attend) { attend.args.out = attend.args.q; });
  refuse_attend(overlaps("q", 4, 3), [&](Attend& attend) {  // by one element, at either end
    widen(attend);
    attend.args.q.data = attend.q.data() + attend.out.size() - 1;
  });
  refuse_attend(overlaps("q", 0, 0), [&](Attend& attend) {
    widen(attend);
    attend.args.out.data = attend.q.data() + attend.out.size() - 1;
  });
  refuse_attend(overlaps("q", 1, 0), [&](Attend& attend) {  // backwards, every other token between those of q
    widen(attend);
    attend.args.q.stride[0] = 2 * kQHeads * kRowBytes, attend.args.q.stride[1] = kRowBytes;
    attend.args.out.stride[0] = -kQHeads * kRowBytes, attend.args.out.stride[1] = kRowBytes;
    attend.args.out.data = attend.q.data() + 5 * kQHeads * kDim;
  });
  refuse_attend(overlaps("sinks", 0, 3), [](Attend& attend) {
    attend.args.sinks = attend.out.data() + 4 * kDim - 1;
    attend.out.assign(attend.out.size(), 0.5f);
  });
  refuse_attend(overlaps("alibi", 4, 3), [](Attend& attend) {
    attend.args.alibi = attend.out.data() + attend.out.size() - kQHeads;
    attend.out.assign(attend.out.size(), 0.5f);
  });
}

TEST_F(BadInput, NaNAndInfinityAnywhere) {
  for (const float bad : {kNaN, kInfinity, -kInfinity}) {
    refuse_append("k holds NaN or infinity in token 0, head 0; every element must be finite",
                  [&](Append& append) { append.k.front() = bad; });
    refuse_append("k holds NaN or infinity in token 4, head 1", [&](Append& append) { append.k.back() = bad; });
    refuse_append("v holds NaN or infinity in token 4, head 1", [&](Append& append) { append.v.back() = bad; });
    refuse_append("v holds NaN or infinity in token 1, head 0",
                  [&](Append& append) { append.v[kKvHeads * kDim + 7] = bad; });
    refuse_append("q holds NaN or infinity in token 4, head 3", [&](Append& append) { append.q.back() = bad; });
    refuse_attend("q holds NaN or infinity in token 4, head 3", [&](Attend& attend) { attend.q.back() = bad; });
    refuse_attend("q holds NaN or infinity in token 0, head 0", [&](Attend& attend) { attend.q.front() = bad; });
    refuse_attend("alibi[3] is", [&](Attend& attend) {
      attend.alibi.back() = bad;
      attend.args.alibi = attend.alibi.data();
    });
  }
  for (const float bad : {kNaN, kInfinity}) {  // -inf is a sink that takes nothing
    refuse_attend("sinks[3] is", [&](Attend& attend) {
      attend.sinks.back() = bad;
      attend.args.sinks = attend.sinks.data();
    });
  }
}

TEST_F(BadInput, LayersAndCounts) {
  for (const std::int32_t layer : {-1, kLayers, std::numeric_limits<std::int32_t>::max()}) {
    const std::string message = "layer is " + std::to_string(layer) + "; allowed: 0 to 1";
    refuse_append(message, [&](Append& append) { append.args.layer = layer; });
    refuse_attend(message, [&](Attend& attend) { attend.args.layer = layer; });
    auto info = init<td_seq_info>();
    std::int64_t length = 0;
    expect_refused(message, TD_EINVAL, [&] { return td_seq_query(rt_, a_, layer, &info); });
    expect_refused(message, TD_EINVAL, [&] { return td_seq_length(rt_, a_, layer, &length); });
  }
  for (const std::int32_t n : {0, -1}) {
    const std::string message = "num_seqs is " + std::to_string(n) + "; at least one sequence is needed";
    refuse_append(message, [&](Append& append) { append.args.num_seqs = n; });
    refuse_attend(message, [&](Attend& attend) { attend.args.num_seqs = n; });
  }
  for (const std::int64_t n : {std::int64_t{-1}, std::int64_t{1} << 31, std::numeric_limits<std::int64_t>::max()}) {
    const std::string value = "[1] is " + std::to_string(n) + "; allowed: 0 to";
    refuse_append("num_tokens" + value, [&](Append& append) { append.counts[1] = n; });
    refuse_attend("num_queries" + value, [&](Attend& attend) { attend.counts[1] = n; });
  }
}

TEST_F(BadInput, MoreQueriesThanTokensAndMoreTokensThanTheMost) {
  const auto attend_many = [this](td_seq seq, std::int64_t n) {
    Attend attend({seq}, {n}, 9);
    return attend.run(rt_);
  };
  expect_refused("num_queries[0] is 201; sequence", TD_EINVAL, [&] { return attend_many(a_, kTokens + 1); });
  EXPECT_EQ(attend_many(a_, kTokens), TD_OK);
  EXPECT_EQ(attend_many(create(rt_), 1), TD_EINVAL) << "a sequence without tokens has no query";
  const auto append_many = [this](std::int64_t n) { return Append({b_, a_}, {1, n}, 9).run(rt_); };
  expect_refused("num_tokens[1] is 51; sequence", TD_EINVAL, [&] { return append_many(51); });
  EXPECT_THAT(td_last_error(), testing::HasSubstr("holds 200 tokens in layer 0 and max_tokens is 250"));
  EXPECT_EQ(append_many(50), TD_OK) << td_last_error();
}

TEST_F(BadInput, SequencesThatAreNotThere) {
  for (const td_seq bad : {td_seq{0}, destroyed_, td_seq{1} << 60, ~td_seq{0}}) {
    const std::string message = "sequence " + std::to_string(bad) + " does not exist or was destroyed";
    refuse_append(
        message, [&](Append& append) { append.seqs[1] = bad; }, TD_ESTATE);
    refuse_attend(
        message, [&](Attend& attend) { attend.seqs[1] = bad; }, TD_ESTATE);
    td_seq fork = 0;
    auto info = init<td_seq_info>();
    std::int64_t length = 0;
    expect_refused(message, TD_ESTATE, [&] { return td_seq_fork(rt_, bad, -1, nullptr, &fork); });
    expect_refused(message, TD_ESTATE, [&] { return td_seq_truncate(rt_, bad, 0); });
    expect_refused(message, TD_ESTATE, [&] { return td_seq_query(rt_, bad, 0, &info); });
    expect_refused(message, TD_ESTATE, [&] { return td_seq_length(rt_, bad, 0, &length); });
    expect_refused(message, TD_ESTATE, [&] { return td_seq_destroy(rt_, bad); });
  }
}

TEST_F(BadInput, TheSameSequenceTwice) {
  const std::string message = "seqs lists sequence " + std::to_string(a_) + " twice";
  refuse_append(message, [this](Append& append) { append.seqs[1] = a_; });
  refuse_attend(message, [this](Attend& attend) { attend.seqs[1] = a_; });
}

TEST_F(BadInput, TruncateAndForkBeyondTheLength) {
  ASSERT_EQ(Append({a_}, {5}, 3, 1).run(rt_), TD_OK);  // layer 1 is ahead of layer 0
  td_seq fork = 0;
  for (const std::int64_t length : {kTokens + 1, std::int64_t{-2}, std::numeric_limits<std::int64_t>::max()}) {
    const std::string message = "num_tokens is " + std::to_string(length) + "; allowed: 0 to 200";
    expect_refused(message, TD_EINVAL, [&] { return td_seq_truncate(rt_, a_, length); });
    expect_refused(message, TD_EINVAL, [&] { return td_seq_fork(rt_, a_, length, nullptr, &fork); });
  }
  expect_refused("num_tokens is -1; allowed: 0 to 200", TD_EINVAL, [&] { return td_seq_truncate(rt_, a_, -1); });
}

TEST_F(BadInput, PartsAndSlidingWindows) {
  for (const std::int32_t parts : {8, -1, 3 | 16}) {
    refuse_attend("parts is " + std::to_string(parts) + "; allowed", [&](Attend& a) { a.args.parts = parts; });
  }
  for (const std::int32_t parts : {0, static_cast<std::int32_t>(TD_EXACT)}) {
    refuse_attend("parts is " + std::to_string(parts), [&](Attend& a) { a.args.parts = parts; });
  }
  refuse_attend("sliding_window is -1; it must be 0 (none) or positive", [](Attend& a) { a.args.sliding_window = -1; });
}

TEST_F(BadInput, NullPointers) {
  refuse_append("seqs is NULL", [](Append& append) { append.args.seqs = nullptr; });
  refuse_append("num_tokens is NULL", [](Append& append) { append.args.num_tokens = nullptr; });
  refuse_attend("seqs is NULL", [](Attend& attend) { attend.args.seqs = nullptr; });
  refuse_attend("num_queries is NULL", [](Attend& attend) { attend.args.num_queries = nullptr; });
  expect_refused("args is NULL", TD_EINVAL, [&] { return td_append(rt_, nullptr); });
  expect_refused("args is NULL", TD_EINVAL, [&] { return td_attend(rt_, nullptr); });
  expect_refused("rt is NULL", TD_EINVAL, [&] { return Append({a_}, {1}, 1).run(nullptr); });
  expect_refused("rt is NULL", TD_EINVAL, [&] { return Attend({a_}, {1}, 1).run(nullptr); });
  td_seq fork = 0;
  std::int64_t length = 0;
  auto info = init<td_seq_info>();
  expect_refused("out is NULL", TD_EINVAL, [&] { return td_seq_create(rt_, nullptr); });
  expect_refused("rt is NULL", TD_EINVAL, [&] { return td_seq_create(nullptr, &fork); });
  expect_refused("rt is NULL", TD_EINVAL, [&] { return td_seq_destroy(nullptr, a_); });
  expect_refused("out is NULL", TD_EINVAL, [&] { return td_seq_fork(rt_, a_, -1, nullptr, nullptr); });
  expect_refused("rt is NULL", TD_EINVAL, [&] { return td_seq_fork(nullptr, a_, -1, nullptr, &fork); });
  expect_refused("rt is NULL", TD_EINVAL, [&] { return td_seq_truncate(nullptr, a_, 0); });
  expect_refused("out is NULL", TD_EINVAL, [&] { return td_seq_length(rt_, a_, 0, nullptr); });
  expect_refused("rt is NULL", TD_EINVAL, [&] { return td_seq_length(nullptr, a_, 0, &length); });
  expect_refused("info is NULL", TD_EINVAL, [&] { return td_seq_query(rt_, a_, 0, nullptr); });
  expect_refused("rt is NULL", TD_EINVAL, [&] { return td_seq_query(nullptr, a_, 0, &info); });
}

}  // namespace
}  // namespace c_api
