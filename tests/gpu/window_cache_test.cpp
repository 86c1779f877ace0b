#include "gpu/window_cache.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/base/error.h"
#include "runtime/base/random.h"
#include "tests/support/deferred_device.h"

namespace tandem::gpu {
namespace {

constexpr std::int64_t kHeads = 2;  // of the tensors; the window is that of kHead
constexpr std::int64_t kHead = 1;
constexpr Stream kStream{};
constexpr AttentionShape kShape{1, 2, 2, 9, 5, 1.f, 0.f};

struct Machine {
  explicit Machine(DeviceKind kind = DeviceKind::host)
      : device(make_device(kind, cpu::kernels_for(cpu::Isa::scalar), topology, ledger)) {}

  numa::Topology topology = numa::Topology::detect();
  numa::MemoryLedger ledger{std::int64_t{1} << 30};
  std::unique_ptr<Device> device;
};

/// K then V of one token of one head: small integers, which every dtype holds, that tell the tokens apart.
std::vector<float> values_of(std::int64_t position, std::int64_t head, int salt) {
  std::vector<float> values(static_cast<std::size_t>(kShape.head_dim_k + kShape.head_dim_v));
  values[0] = static_cast<float>(position % 128);
  values[1] = static_cast<float>(position / 128);
  values[2] = static_cast<float>(head);
  values[3] = static_cast<float>(salt);
  for (std::size_t i = 4; i < values.size(); ++i) {
    values[i] =
        static_cast<float>((position * 7 + head * 31 + salt * 5 + static_cast<std::int64_t>(i) * 3) % 251) - 125.f;
  }
  return values;
}

/// The rows of one layout that a window or store must hold, written once.
class ExpectedRows {
 public:
  explicit ExpectedRows(DType dtype)
      : layout_(cpu::RowLayout::of(kShape, dtype)),
        rows_(static_cast<std::size_t>(kSalts * kHeads * kPositions * layout_.row_bytes)) {
    for (int salt = 0; salt < kSalts; ++salt) {
      for (std::int64_t head = 0; head < kHeads; ++head) {
        for (std::int64_t p = 0; p < kPositions; ++p) {
          const auto values = values_of(p, head, salt);
          cpu::write_row(layout_, DType::f32, reinterpret_cast<const std::byte*>(values.data()),
                         reinterpret_cast<const std::byte*>(values.data() + kShape.head_dim_k),
                         rows_.data() + offset(p, head, salt));
        }
      }
    }
  }
  [[nodiscard]] const cpu::RowLayout& layout() const { return layout_; }
  [[nodiscard]] bool is(const std::byte* row, std::int64_t position, std::int64_t head, int salt) const {
    return std::memcmp(row, rows_.data() + offset(position, head, salt), static_cast<std::size_t>(layout_.row_bytes)) ==
           0;
  }

 private:
  static constexpr std::int64_t kPositions = 700;
  static constexpr int kSalts = 3;
  [[nodiscard]] std::int64_t offset(std::int64_t position, std::int64_t head, int salt) const {
    return ((salt * kHeads + head) * kPositions + position) * layout_.row_bytes;
  }
  cpu::RowLayout layout_;
  std::vector<std::byte> rows_;
};

/// A window whose owner keeps what leaves it, as the runtime does. `salts` tells which tokens were written.
struct OwnedWindow {
  Device* device;
  WindowCache cache;
  const ExpectedRows* in_window;
  const ExpectedRows* on_host;
  cpu::RowLayout host_layout = on_host->layout();
  std::vector<std::byte> left;
  std::vector<int> salts;

  OwnedWindow(Device& of, WindowCache window, const ExpectedRows& window_rows, const ExpectedRows& host_rows)
      : device(&of), cache(std::move(window)), in_window(&window_rows), on_host(&host_rows) {}

  void push(std::int64_t count, int salt = 0) {
    while (count > 0) {
      const auto slice = cache.next_slice(count);
      ASSERT_GT(slice.tokens, 0);
      ASSERT_LE(slice.tokens, cpu::kPageRows);
      if (slice.leaves) evict();
      write(slice.tokens, salt);
      count -= slice.tokens;
    }
  }
  void evict() {
    const std::size_t before = left.size();
    left.resize(before + static_cast<std::size_t>(host_layout.page_bytes()));
    cache.read_leaving_page(host_layout, left.data() + before, kStream);
    device->wait(kStream);
    cache.release_page(kStream);
  }
  void write(std::int64_t count, int salt) {
    std::vector<float> k, v;
    for (std::int64_t t = 0; t < count; ++t) {
      for (std::int64_t h = 0; h < kHeads; ++h) {
        const auto values = values_of(cache.length() + t, h, salt);
        k.insert(k.end(), values.begin(), values.begin() + kShape.head_dim_k);
        v.insert(v.end(), values.begin() + kShape.head_dim_k, values.end());
      }
    }
    cache.append({dense_view(std::as_const(k).data(), DType::f32, count, kHeads, kShape.head_dim_k),
                  dense_view(std::as_const(v).data(), DType::f32, count, kHeads, kShape.head_dim_v)},
                 kHead, kStream);
    device->wait(kStream);
    salts.insert(salts.end(), static_cast<std::size_t>(count), salt);
  }
  [[nodiscard]] OwnedWindow fork(std::int64_t length) const {
    OwnedWindow copy(*device, cache.fork(length, host_layout, host_rows(), kStream), *in_window, *on_host);
    copy.left = left;
    copy.salts = salts;
    copy.cut(length);
    return copy;
  }
  void truncate(std::int64_t length) {
    cache.truncate(cache.cut_at(length, host_layout, host_rows()), kStream);
    cut(length);
  }
  [[nodiscard]] WindowCache::HostRow host_rows() const {
    return [this](std::int64_t row) { return left.data() + row * host_layout.row_bytes; };
  }
  void cut(std::int64_t length) {
    salts.resize(static_cast<std::size_t>(length));
    left.resize(static_cast<std::size_t>(cache.evicted() * host_layout.row_bytes));
  }

  /// The rows that the window holds, as its device has them, each at its position.
  [[nodiscard]] std::vector<std::byte> held_rows(const WindowView& view) const {
    const cpu::RowLayout& layout = in_window->layout();
    std::vector<std::byte> rows(static_cast<std::size_t>(view.end * layout.row_bytes));
    const auto read = [&](std::int64_t first, std::int64_t last) {
      if (last > first)
        device->read_rows(view, first, last - first, layout, rows.data() + first * layout.row_bytes, kStream);
    };
    read(0, std::min(view.sinks, view.end));
    read(std::max(view.sinks, view.local_begin), view.end);
    device->wait(kStream);
    return rows;
  }
  /// Held and left tokens partition [0, length), and every row of both tiers is the one that was written.
  void expect_consistent() const {
    const auto length = static_cast<std::int64_t>(salts.size());
    ASSERT_EQ(cache.length(), length);
    ASSERT_EQ(cache.held() + cache.evicted(), length);
    const WindowView view = cache.view();
    ASSERT_EQ(static_cast<std::int64_t>(left.size()), cache.evicted() * host_layout.row_bytes);
    ASSERT_EQ(view.local_begin, cache.sink_tokens() + cache.evicted());
    const std::vector<std::byte> held = held_rows(view);
    for (std::int64_t p = 0; p < length; ++p) {
      const bool is_left = p >= view.sinks && p < view.local_begin;
      const std::byte* actual = is_left ? left.data() + (p - view.sinks) * host_layout.row_bytes
                                        : held.data() + p * in_window->layout().row_bytes;
      const ExpectedRows& expected = is_left ? *on_host : *in_window;
      ASSERT_TRUE(expected.is(actual, p, kHead, salts[static_cast<std::size_t>(p)]))
          << "position " << p << " of " << length;
    }
  }
};

class Window : public testing::TestWithParam<std::tuple<int /*sinks*/, int /*local*/, DType, DeviceKind>> {
 protected:
  [[nodiscard]] WindowParams params() const {
    return {std::get<0>(GetParam()), std::get<1>(GetParam()), std::get<2>(GetParam())};
  }
  OwnedWindow make() {
    return {*machine_.device, WindowCache(*machine_.device, in_window_.layout(), params(), nullptr, 0), in_window_,
            on_host_};
  }
  /// Tokens that have left once `length` have entered, however they were grouped.
  [[nodiscard]] std::int64_t expected_evictions(std::int64_t length) const {
    const std::int64_t excess = length - params().sink_tokens - params().local_tokens - cpu::kPageRows;
    return excess <= 0 ? 0 : (excess + cpu::kPageRows - 1) / cpu::kPageRows * cpu::kPageRows;
  }

  Machine machine_{std::get<3>(GetParam())};
  const ExpectedRows in_window_{params().dtype};
  const ExpectedRows on_host_{params().dtype == DType::f32 ? DType::bf16 : DType::f32};  // to see the conversion
};

INSTANTIATE_TEST_SUITE_P(WindowCache, Window,
                         testing::Combine(testing::Values(0, 1, 4, 70), testing::Values(1, 63, 64, 65),
                                          testing::Values(DType::f32, DType::f16, DType::bf16), device_kinds()),
                         [](const auto& test) {
                           return concat("s", std::get<0>(test.param), "_l", std::get<1>(test.param), "_",
                                         to_string(std::get<2>(test.param)), "_", to_string(std::get<3>(test.param)));
                         });

TEST_P(Window, StateDependsOnTheNumberOfTokensAlone) {
  CounterRandom random(1, 0);
  for (int round = 0; round < 4; ++round) {
    OwnedWindow window = make();
    while (window.cache.length() < 420) {
      const std::int64_t most = round == 0 ? 1 : round == 1 ? 3 : 200;
      const auto count = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(most) + 1));
      const std::int64_t before = window.cache.evicted();
      const std::int64_t predicted = window.cache.leaving_for(count);
      ASSERT_NO_FATAL_FAILURE(window.push(count));
      const std::int64_t length = window.cache.length();
      ASSERT_EQ(window.cache.evicted() - before, predicted) << length;
      ASSERT_EQ(window.cache.evicted(), expected_evictions(length)) << length;
      ASSERT_EQ(window.cache.evicted() % cpu::kPageRows, 0);
      const std::int64_t latest = std::min<std::int64_t>(params().local_tokens, length);
      ASSERT_TRUE(window.cache.evicted() == 0 || window.cache.view().local_begin <= length - latest) << length;
      if (round > 1 || length % 40 == 0) {
        ASSERT_NO_FATAL_FAILURE(window.expect_consistent());
      }
    }
    ASSERT_NO_FATAL_FAILURE(window.expect_consistent());
  }
}

TEST_P(Window, SlicesNeverExceedThePageOrTheRoom) {
  OwnedWindow window = make();
  EXPECT_EQ(window.cache.next_slice(0).tokens, 0);
  EXPECT_FALSE(window.cache.next_slice(0).leaves);
  while (window.cache.length() < 300) {
    const auto one = window.cache.next_slice(1);
    EXPECT_EQ(one.tokens, 1);
    EXPECT_EQ(one.leaves, window.cache.leaving_for(1) > 0);
    EXPECT_LE(window.cache.next_slice(1000).tokens, cpu::kPageRows);
    EXPECT_FALSE(window.cache.next_slice(0).leaves);
    window.push(1);
  }
}

TEST_P(Window, TruncatesAtEveryLengthAndGoesOn) {
  OwnedWindow source = make();
  ASSERT_NO_FATAL_FAILURE(source.push(330, 0));
  for (std::int64_t length = 0; length <= 330; ++length) {
    OwnedWindow window = source.fork(330);
    window.truncate(length);
    ASSERT_NO_FATAL_FAILURE(window.expect_consistent());
    // As if it had never been longer: the same tokens are held as in a window that only got this far.
    OwnedWindow shorter = make();
    ASSERT_NO_FATAL_FAILURE(shorter.push(length, 0));
    ASSERT_EQ(window.cache.evicted(), shorter.cache.evicted());
    const std::int64_t before = window.cache.evicted();
    const std::int64_t predicted = window.cache.leaving_for(150);
    ASSERT_NO_FATAL_FAILURE(window.push(150, 1));
    ASSERT_EQ(window.cache.evicted() - before, predicted);
    ASSERT_NO_FATAL_FAILURE(window.expect_consistent()) << "truncated to " << length;
    ASSERT_GE(window.cache.length() - window.cache.view().local_begin,
              std::min<std::int64_t>(params().local_tokens, length + 150 - params().sink_tokens));
  }
}

TEST_P(Window, ForksAtEveryLengthAndBothGoTheirOwnWay) {
  for (std::int64_t length = 0; length <= 260; length += length < 80 || length > 180 ? 1 : 7) {
    OwnedWindow source = make();
    ASSERT_NO_FATAL_FAILURE(source.push(260, 0));
    OwnedWindow fork = source.fork(length);
    ASSERT_NO_FATAL_FAILURE(fork.expect_consistent());
    source.push(90, 1);
    ASSERT_NO_FATAL_FAILURE(fork.expect_consistent()) << "the source wrote into its fork at " << length;
    fork.push(140, 2);
    ASSERT_NO_FATAL_FAILURE(source.expect_consistent()) << "the fork at " << length << " wrote into its source";
    ASSERT_NO_FATAL_FAILURE(fork.expect_consistent());
  }
}

TEST_P(Window, ForkOutlivesItsSourceAndTruncatingBeyondTheEndDoesNothing) {
  auto source = std::make_unique<OwnedWindow>(make());
  source->push(200, 0);
  OwnedWindow fork = source->fork(150);
  source.reset();
  ASSERT_NO_FATAL_FAILURE(fork.expect_consistent());
  fork.cache.truncate(fork.cache.cut_at(1000, fork.host_layout, fork.host_rows()), kStream);
  ASSERT_NO_FATAL_FAILURE(fork.expect_consistent());
}

TEST(WindowCache, CountsItsMemoryInTheLedger) {
  Machine machine;
  const auto layout = cpu::RowLayout::of(kShape, DType::f32);
  {
    const WindowCache window(*machine.device, layout, {4, 64, DType::f32}, nullptr, 0);
    const std::int64_t one = machine.ledger.used_bytes();
    EXPECT_GE(one, (4 + 64 + cpu::kPageRows) * layout.row_bytes);
    const WindowCache copy = window.fork(0, layout, {}, kStream);
    EXPECT_EQ(machine.ledger.used_bytes(), 2 * one);
  }
  EXPECT_EQ(machine.ledger.used_bytes(), 0);
}

TEST(WindowCache, RefusedMemoryLeavesNothingBehind) {
  Machine machine;
  numa::MemoryLedger small(10'000);
  HostDevice device(cpu::kernels_for(cpu::Isa::scalar), machine.topology, small);
  EXPECT_THROW(WindowCache(device, cpu::RowLayout::of(kShape, DType::f32), {4, 100'000, DType::f32}, nullptr, 0),
               Error);
  EXPECT_EQ(small.used_bytes(), 0);
}

TEST(WindowParams, AreValidated) {
  const auto message = [](const WindowParams& params, const cpu::RopeParams& rope = {}) -> std::string {
    try {
      validate(params, kShape, rope);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message({0, 1, DType::f32}), "accepted");
  EXPECT_EQ(message({-1, 1, DType::f32}), "sink_tokens is -1; allowed: 0 to 16777216");
  EXPECT_EQ(message({16777217, 1, DType::f32}), "sink_tokens is 16777217; allowed: 0 to 16777216");
  EXPECT_EQ(message({0, 0, DType::f32}), "local_tokens is 0; allowed: 1 to 16777216");
  EXPECT_EQ(message({0, -5, DType::f32}), "local_tokens is -5; allowed: 1 to 16777216");
  WindowParams merging;
  merging.merge.emplace();
  merging.codec.kind = cpu::CodecKind::nuq;
  EXPECT_EQ(message(merging),
            "window_policy dmc needs rope_theta, which is 0: keys are averaged before RoPE and rotated "
            "by Tandem");
  EXPECT_EQ(message(merging, {10000.0}),
            "window_codec is nuq, which turns keys back by their positions; entries of the window_policy dmc lie at "
            "others");
}

}  // namespace
}  // namespace tandem::gpu
