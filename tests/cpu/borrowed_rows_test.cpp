// Rows in somebody else's tensors: K and V apart, heads interleaved, at any address, in ggml's blocks; on every
// instruction set.
#include <cmath>
#include <cstring>
#include <tuple>

#include <gtest/gtest.h>

#include "cpu/latest_attention.h"
#include "cpu/listed_attention.h"
#include "cpu/sampled_attention.h"
#include "tests/support/reference_sequence.h"

namespace tandem::cpu {
namespace {

using testing::ReferenceSequence;
using testing::relative_error;

constexpr int kHeads = 3;  // of the tensors; the middle one is attended
constexpr std::int64_t kRows = 300;

/// Writes `count` elements as blocks of q8_0 or q4_0 or as elements, and gives back what they stand for.
std::vector<float> encode(DType dtype, const std::vector<float>& values, std::byte* target) {
  std::vector<float> stored(values.size());
  if (!is_blocked(dtype)) {
    store_f32(dtype, values.data(), target, static_cast<std::int64_t>(values.size()));
    load_f32(dtype, target, stored.data(), static_cast<std::int64_t>(values.size()));
    return stored;
  }
  const int most = dtype == DType::q8_0 ? 127 : 7;
  for (std::size_t begin = 0; begin < values.size(); begin += 32) {
    float largest = 0.f;
    for (std::size_t i = 0; i < 32; ++i) largest = std::max(largest, std::abs(values[begin + i]));
    const std::uint16_t scale = f32_to_f16(largest / static_cast<float>(most));
    std::byte* block = target + bytes_of(dtype, static_cast<std::int64_t>(begin));
    std::memset(block, 0, static_cast<std::size_t>(bytes_of(dtype, 32)));
    std::memcpy(block, &scale, 2);
    for (std::size_t i = 0; i < 32; ++i) {
      const auto x = static_cast<int>(std::lrint(largest > 0 ? values[begin + i] / f16_to_f32(scale) : 0.f));
      const int integer = std::clamp(x, -most, most);
      stored[begin + i] = static_cast<float>(integer) * f16_to_f32(scale);
      if (dtype == DType::q8_0) {
        block[2 + i] = static_cast<std::byte>(integer);
      } else {
        block[2 + i % 16] |= static_cast<std::byte>((integer + 8) << (i < 16 ? 0 : 4));
      }
    }
  }
  return stored;
}

/// Two tensors (kRows, kHeads, dim) at odd addresses, and what head 1 of them holds.
struct EngineTensors {
  EngineTensors(DType dtype, int dim, int group)
      : shape(resolved({1, group, 1, dim, dim, 0.f, 0.f})), reference(shape) {
    head_bytes = bytes_of(dtype, dim);
    const std::int64_t row_bytes = head_bytes * kHeads + 6;
    CounterRandom random(8, static_cast<std::uint64_t>(dim));
    k.resize(static_cast<std::size_t>(row_bytes * kRows) + 64);
    v.resize(k.size());
    std::byte* keys = k.data() + 2;
    std::byte* values = v.data() + 18;
    for (std::int64_t r = 0; r < kRows; ++r) {
      std::vector<float> stored[2];
      for (int h = 0; h < kHeads; ++h) {
        const std::int64_t at = r * row_bytes + h * head_bytes;
        auto key = encode(dtype, testing::representable_normals(random, dim, DType::f32, 1.3), keys + at);
        auto value = encode(dtype, testing::representable_normals(random, dim, DType::f32), values + at);
        if (h == 1) reference.append(key, value);
      }
    }
    base = keys + head_bytes;
    layout = RowLayout::borrowed(shape, dtype, row_bytes, values - keys);
    q = testing::representable_normals(random, std::int64_t{group} * dim, DType::f32);
    scaled.assign(q.begin(), q.end());
    for (float& x : scaled) x *= shape.scale;
  }
  [[nodiscard]] QueryBlock queries(const std::int64_t* position) const {
    return {scaled.data(), position, 1, shape.group_size()};
  }
  void expect_equal(const std::vector<float>& out, const std::vector<float>& lse,
                    const std::vector<std::int64_t>& rows) const {
    const int dim = shape.head_dim_v;
    for (int h = 0; h < shape.group_size(); ++h) {
      const auto expected = reference.attend_over(q.data() + h * dim, h, rows);
      EXPECT_LT(relative_error(out.data() + h * dim, expected.out), 1e-5);
      EXPECT_NEAR(lse[static_cast<std::size_t>(h)], expected.lse, 1e-5);
    }
  }

  AttentionShape shape;
  ReferenceSequence reference;
  std::vector<std::byte> k, v;
  std::int64_t head_bytes = 0;
  const std::byte* base = nullptr;  // of head 1
  RowLayout layout;
  std::vector<float> q;
  AlignedVector<float> scaled;
};

class BorrowedRowsOf : public ::testing::TestWithParam<std::tuple<Isa, DType, int /*dim*/>> {
 protected:
  void SetUp() override {
    if (is_blocked(std::get<1>(GetParam())) && dim() % kBlockElements != 0) GTEST_SKIP() << "no whole blocks";
  }
  [[nodiscard]] const Kernels& kernels() const { return kernels_for(std::get<0>(GetParam())); }
  [[nodiscard]] EngineTensors tensors(int group) const {
    return {std::get<1>(GetParam()), std::get<2>(GetParam()), group};
  }
  [[nodiscard]] int dim() const { return std::get<2>(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Isas, BorrowedRowsOf,
                         ::testing::Combine(::testing::ValuesIn(available_isas()),
                                            ::testing::Values(DType::f32, DType::f16, DType::bf16, DType::q8_0,
                                                              DType::q4_0),
                                            ::testing::Values(32, 80, 96, 128, 256)));

TEST_P(BorrowedRowsOf, AListIsAttendedInItsOrder) {
  for (const int group : {1, 4, 7, 20}) {  // from 16 vectors on rows are decoded first
    const EngineTensors engine = tensors(group);
    RowRuns runs;
    std::vector<std::int64_t> rows;
    for (const auto& [begin, count] : {std::pair{200, 70}, {10, 1}, {12, 3}, {40, 129}}) {
      runs.add(begin, count);
      for (int i = 0; i < count; ++i) rows.push_back(begin + i);
    }
    std::vector<float> out(engine.q.size()), lse(static_cast<std::size_t>(group));
    ListedScratch scratch;
    const PartialAttention result{out.data(), lse.data(), group, dim()};
    const std::int32_t heads[] = {1};
    const EngineHeads middle{engine.layout, engine.base - engine.head_bytes, engine.head_bytes, kHeads, heads};
    const auto attend = [&](RowRange range) {
      listed_attention(kernels(), middle, runs, range, {}, nullptr, engine.scaled.data(), group, 0.f, scratch, result);
    };
    attend({});
    engine.expect_equal(out, lse, rows);
    attend({65, 75});
    engine.expect_equal(out, lse, {rows.begin() + 65, rows.begin() + 75});
  }
}

TEST_P(BorrowedRowsOf, AllHeadsOfATokenGetWhatEachWouldGet) {
  const int group = 2;
  const EngineTensors engine = tensors(group);
  const RowRuns runs = [] {
    RowRuns list;
    list.add(7, 100);
    list.add(150, 61);
    return list;
  }();
  AlignedVector<float> queries;
  for (int h = 0; h < kHeads; ++h) queries.insert(queries.end(), engine.scaled.begin(), engine.scaled.end());
  const auto attend = [&](std::span<const std::int32_t> heads) {
    ListedScratch scratch;
    std::vector<float> out(heads.size() * engine.q.size() + heads.size() * group);
    const PartialAttention result{out.data(), out.data() + heads.size() * engine.q.size(),
                                  static_cast<std::int64_t>(heads.size()) * group, dim()};
    listed_attention(kernels(), {engine.layout, engine.base - engine.head_bytes, engine.head_bytes, kHeads, heads},
                     runs, {}, {}, nullptr, queries.data(), group, 0.f, scratch, result);
    return out;
  };
  const std::int32_t all[] = {0, 1, 2}, outer[] = {0, 2};
  const auto together = attend(all), two = attend(outer);
  const std::size_t width = engine.q.size();
  for (std::size_t h = 0; h < kHeads; ++h) {
    const auto alone = attend({all + h, 1});
    EXPECT_TRUE(std::equal(alone.begin(), alone.begin() + static_cast<std::ptrdiff_t>(width),
                           together.begin() + static_cast<std::ptrdiff_t>(h * width)));
    if (h == 1) continue;
    EXPECT_TRUE(std::equal(alone.begin(), alone.begin() + static_cast<std::ptrdiff_t>(width),
                           two.begin() + static_cast<std::ptrdiff_t>(h / 2 * width)));
  }
}

TEST_P(BorrowedRowsOf, StoresFindThemByTheirPlaces) {
  const EngineTensors engine = tensors(2);
  auto places = std::make_shared<std::vector<std::uint32_t>>();
  for (std::uint32_t r = 0; r < kRows; ++r) places->push_back(r * 7 % kRows);
  KvStore store(engine.layout, BorrowedRows{engine.base, places, 4});
  store.borrow_up_to(kRows - 4);
  store.publish(192);
  std::vector<float> key(static_cast<std::size_t>(dim())), value(key);
  for (const std::int64_t row : {-4, -1, 0, 5, 191, 295}) {
    const std::int64_t place = (row + 4) * 7 % kRows;
    load_key(engine.layout, store.row(row), key.data());
    load_value(engine.layout, store.row(row), value.data());
    EXPECT_EQ(key, std::vector<float>(engine.reference.key(place, 0), engine.reference.key(place, 0) + dim()));
    EXPECT_EQ(value, std::vector<float>(engine.reference.value(place, 0), engine.reference.value(place, 0) + dim()));
  }
  // The four rows before row 0, and those that are not published: positions 0 to 3 and 196 to the query's.
  std::vector<float> out(engine.q.size()), lse(2);
  AttentionScratch scratch;
  for (const std::int64_t position : {2, 100, 196, 250, 299}) {
    std::vector<std::int64_t> rows;
    for (std::int64_t p = 0; p <= position; ++p) {
      if (p < 4 || p >= 196) rows.push_back(p * 7 % kRows);
    }
    const std::int64_t seen = latest_attention(kernels(), store, 4, engine.queries(&position), {}, scratch,
                                               {out.data(), lse.data(), 2, dim()});
    EXPECT_EQ(seen, static_cast<std::int64_t>(rows.size())) << position;
    engine.expect_equal(out, lse, rows);
  }
}

TEST_P(BorrowedRowsOf, KeysAreCentredAsTheyAreRead) {
  const EngineTensors engine = tensors(1);
  const std::byte* rows[] = {engine.base, engine.base + 17 * engine.layout.row_bytes};
  AlignedVector<float> mean(static_cast<std::size_t>(dim()), 0.25f), centred(mean.size() * 2);
  kernels().sketch.centre[engine.layout.dtype](rows, 2, dim(), mean.data(), centred.data());
  for (int d = 0; d < dim(); ++d) {
    EXPECT_EQ(centred[static_cast<std::size_t>(d)], engine.reference.key(0, 0)[d] - 0.25f);
    EXPECT_EQ(centred[static_cast<std::size_t>(dim() + d)], engine.reference.key(17, 0)[d] - 0.25f);
  }
}

TEST(RowRuns, JoinWhatTouchesAndTellWhatIsCommon) {
  RowRuns a, b;
  a.add(5, 10);
  a.add(15, 5);
  a.add(3, 1);
  EXPECT_EQ(a.count(), 16);
  EXPECT_EQ(a.runs(), (std::vector<RowRun>{{5, 15}, {3, 1}}));
  EXPECT_EQ(a.common_prefix(a), 16);
  b.add(5, 12);
  EXPECT_EQ(a.common_prefix(b), 12);
  b.add(40, 3);
  EXPECT_EQ(b.common_prefix(a), 12);
  EXPECT_EQ(b.common_prefix(RowRuns{}), 0);
  a.truncate(15);
  EXPECT_EQ(a.runs(), (std::vector<RowRun>{{5, 15}}));
  a.truncate(2);
  EXPECT_EQ(a.count(), 2);
  std::vector<std::int64_t> seen;
  b.visit(10, 14, [&](std::int64_t begin, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) seen.push_back(begin + i);
  });
  EXPECT_EQ(seen, (std::vector<std::int64_t>{15, 16, 40, 41}));
}

}  // namespace
}  // namespace tandem::cpu
