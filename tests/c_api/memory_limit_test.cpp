// The memory ledger refuses: with both figures, without a change, and the runtime goes on.
#include <cstring>
#include <functional>

#include "tests/c_api/driver.h"

namespace c_api {
namespace {

constexpr char kFigures[] = "needs .* \\([0-9]+ bytes\\), but only .* \\([0-9]+ bytes\\) of the .* limit are left";

std::int64_t used_bytes(td_rt* rt) {
  char text[8192];
  std::size_t needed = 0;
  EXPECT_EQ(td_describe(rt, text, sizeof(text), &needed), TD_OK);
  const char* field = std::strstr(text, "\"used_bytes\":");
  EXPECT_NE(field, nullptr);
  return std::stoll(field + std::strlen("\"used_bytes\":"));
}

/// One thread, so that what is refused does not depend on who comes first.
td_config limited_to(std::int64_t bytes, const td_selector* selector = nullptr) {
  td_config c = config();
  c.num_threads = 1;
  c.host_memory_bytes = bytes;
  c.selector = selector;
  return c;
}

void expect_refused(td_rt* rt, std::initializer_list<td_seq> seqs, bool attend,
                    const std::function<td_status()>& call) {
  const Snapshot before(rt, seqs, attend);
  const std::int64_t used = used_bytes(rt);
  EXPECT_EQ(call(), TD_ENOMEM);
  EXPECT_THAT(td_last_error(), testing::ContainsRegex(kFigures));
  EXPECT_EQ(Snapshot(rt, seqs, attend), before);
  EXPECT_EQ(used_bytes(rt), used) << "a refused call kept memory";
}

TEST(MemoryLimit, RefusesTheFirstSequence) {
  const Rt rt(limited_to(1000));
  td_seq seq = 42;
  EXPECT_EQ(td_seq_create(rt, &seq), TD_ENOMEM);
  EXPECT_THAT(td_last_error(), testing::ContainsRegex(kFigures));
  EXPECT_EQ(seq, 42u) << "out was written";
  EXPECT_EQ(used_bytes(rt), 0);
}

TEST(MemoryLimit, RefusesOneSequenceTooManyUntilAnotherEnds) {
  const Rt rt(limited_to(400'000));
  std::vector<td_seq> seqs;
  td_seq seq = 0;
  while (td_seq_create(rt, &seq) == TD_OK) {
    seqs.push_back(seq);
    fill(rt, seq, 50, static_cast<std::uint32_t>(seq));
    ASSERT_LT(seqs.size(), 1000u);
  }
  ASSERT_GE(seqs.size(), 2u);
  expect_refused(rt, {seqs.front(), seqs.back()}, true, [&] { return td_seq_create(rt, &seq); });
  expect_refused(rt, {seqs.front(), seqs.back()}, true,
                 [&] { return td_seq_fork(rt, seqs.front(), -1, nullptr, &seq); });
  ASSERT_EQ(td_seq_destroy(rt, seqs.back()), TD_OK);
  EXPECT_EQ(td_seq_fork(rt, seqs.front(), -1, nullptr, &seq), TD_OK) << td_last_error();
  EXPECT_EQ(attended(rt, seq), attended(rt, seqs.front()));
}

TEST(MemoryLimit, RefusesAnAppendThatNeedsTheHostTier) {
  const Rt rt(limited_to(1'000'000));  // room for windows, not for pages
  const td_seq a = create(rt);
  const td_seq b = create(rt);
  fill(rt, a, 90, 1);
  fill(rt, b, 20, 2);
  expect_refused(rt, {a, b}, true, [&] { return Append({a}, {500}, 3).run(rt); });
  expect_refused(rt, {a, b}, true, [&] { return Append({b, a}, {30, 500}, 3).run(rt); });
  Append fits({b, a}, {30, 10}, 3);
  EXPECT_EQ(fits.run(rt), TD_OK) << td_last_error();  // all of it stays in the window
}

TEST(MemoryLimit, RefusesAnAppendHalfwayThroughAStore) {
  const Rt rt(limited_to(8'000'000));
  const td_seq seq = create(rt);
  std::uint32_t seed = 0;
  while (Append({seq}, {2000}, ++seed).run(rt) == TD_OK) ASSERT_LT(seed, 100u);
  ASSERT_GT(seed, 2u) << "some of it fits";
  const Snapshot before(rt, {seq});
  EXPECT_EQ(Append({seq}, {2000}, seed).run(rt), TD_ENOMEM);
  EXPECT_THAT(td_last_error(), testing::ContainsRegex(kFigures));
  EXPECT_EQ(Snapshot(rt, {seq}), before);
  ASSERT_EQ(td_seq_truncate(rt, seq, 0), TD_OK) << td_last_error();
  EXPECT_EQ(Append({seq}, {2000}, 1).run(rt), TD_OK) << "pages are used again: " << td_last_error();
}

/// 200 tokens, 128 of them in the host tier; no call yet that would build the index.
td_seq unindexed(td_rt* rt) {
  const td_seq seq = create(rt);
  fill(rt, seq, 200, 1);
  return seq;
}

TEST(MemoryLimit, RefusesAnIndexOfHalfTheHeadsAndForgetsIt) {
  const td_selector lsh = lsh_selector(10, 150);
  const Rt roomy(limited_to(1 << 30, &lsh));
  for (int i = 0; i < 3; ++i) create(roomy);  // ballast, to be given up below
  const td_seq expected = unindexed(roomy);
  const std::int64_t without = used_bytes(roomy);
  td_seq scratch = 0;
  ASSERT_EQ(td_seq_fork(roomy, expected, -1, nullptr, &scratch), TD_OK);
  const std::int64_t before_index = used_bytes(roomy);
  attended(roomy, scratch);
  const std::int64_t index = used_bytes(roomy) - before_index;  // of both heads of layer 0
  ASSERT_GT(index, 0);

  const Rt rt(limited_to(without + index * 3 / 4, &lsh));
  const td_seq ballast[] = {create(rt), create(rt), create(rt)};
  const td_seq seq = unindexed(rt);
  const auto attend = [&](std::int32_t parts) {
    Attend call({seq}, {1}, 3);
    call.args.parts = parts;
    const td_status status = call.run(rt);
    if (status != TD_OK) {
      EXPECT_EQ(call.out, Attend({seq}, {1}, 3).out) << "out was written";
    }
    return std::pair{status, call.out};
  };
  const auto exact = attend(TD_PART_ALL | TD_EXACT);
  expect_refused(rt, {seq}, false, [&] { return attend(TD_PART_ALL).first; });
  expect_refused(rt, {seq}, false, [&] { return attend(TD_PART_DYNAMIC).first; });
  EXPECT_EQ(attend(TD_PART_ALL | TD_EXACT), exact);
  EXPECT_EQ(attend(TD_PART_STATIC).first, TD_OK);

  // The index is built later from more rows, and nothing tells that it was tried before.
  for (const auto& [runtime, id] : {std::pair<td_rt*, td_seq>{rt, seq}, {roomy, expected}}) fill(runtime, id, 70, 5);
  for (const td_seq b : ballast) ASSERT_EQ(td_seq_destroy(rt, b), TD_OK);
  EXPECT_EQ(attended(rt, seq), attended(roomy, expected));
}

TEST(MemoryLimit, RefusesToForkOrTruncateAnIndexAndKeepsIt) {
  const td_selector lsh = lsh_selector(10, 150);
  std::int64_t used = 0;
  {
    const Rt roomy(limited_to(1 << 30, &lsh));
    const td_seq seq = unindexed(roomy);
    for (const std::int32_t layer : {0, 1}) attended(roomy, seq, 2, layer);
    used = used_bytes(roomy);
  }
  const Rt rt(limited_to(used, &lsh));
  const td_seq seq = unindexed(rt);
  for (const std::int32_t layer : {0, 1}) attended(rt, seq, 2, layer);
  td_seq fork = 0;
  expect_refused(rt, {seq}, true, [&] { return td_seq_fork(rt, seq, -1, nullptr, &fork); });
  expect_refused(rt, {seq}, true, [&] { return td_seq_truncate(rt, seq, 150); });
  EXPECT_EQ(Append({seq}, {5}, 6).run(rt), TD_OK) << td_last_error();
  EXPECT_EQ(td_seq_destroy(rt, seq), TD_OK);
  create(rt);
}

}  // namespace
}  // namespace c_api
