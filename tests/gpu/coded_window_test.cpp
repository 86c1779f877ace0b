// A window whose older tokens are compressed: what it holds depends on the number of tokens alone, is what the codec
// makes of them, and comes back as if never longer.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "gpu/window_cache.h"
#include "runtime/base/error.h"
#include "runtime/base/random.h"
#include "tests/support/codecs.h"
#include "tests/support/deferred_device.h"

namespace tandem::gpu {
namespace {

constexpr Stream kStream{};
constexpr std::int64_t kPositions = 900;
const AttentionShape kShape{1, 2, 1, 64, 128, 1.f, 0.f};

/// Tokens that differ in every element, and what they are as rows.
class Tokens {
 public:
  Tokens() : layout_(cpu::RowLayout::of(kShape, DType::f32)) {
    CounterRandom random(3, 1);
    for (auto* values : {&k_, &v_}) {
      values->resize(static_cast<std::size_t>(kPositions * (values == &k_ ? layout_.padded_k : layout_.padded_v)));
      for (float& x : *values) x = static_cast<float>(random.normal());
    }
  }
  [[nodiscard]] const cpu::RowLayout& layout() const { return layout_; }
  [[nodiscard]] const float* k(std::int64_t p) const { return k_.data() + p * layout_.padded_k; }
  [[nodiscard]] const float* v(std::int64_t p) const { return v_.data() + p * layout_.padded_v; }
  [[nodiscard]] KvView view(std::int64_t first, std::int64_t count) const {
    return {dense_view(k_.data(), DType::f32, kPositions, 1, layout_.dim_k).slice(first, count),
            dense_view(v_.data(), DType::f32, kPositions, 1, layout_.dim_v).slice(first, count)};
  }
  [[nodiscard]] std::vector<std::byte> row(std::int64_t p) const {
    std::vector<std::byte> bytes(static_cast<std::size_t>(layout_.row_bytes));
    cpu::write_row(layout_, DType::f32, reinterpret_cast<const std::byte*>(k(p)),
                   reinterpret_cast<const std::byte*>(v(p)), bytes.data());
    return bytes;
  }

 private:
  cpu::RowLayout layout_;
  std::vector<float> k_, v_;
};

const Tokens& tokens() {
  static const Tokens all;
  return all;
}

/// A window whose owner keeps what leaves its rows, as the runtime does, or not.
struct OwnedWindow {
  Device* device;
  WindowCache cache;
  bool has_host = true;
  std::vector<std::byte> stored = {};

  void push(std::int64_t count) {
    const cpu::RowLayout& layout = tokens().layout();
    while (count > 0) {
      const auto slice = cache.next_slice(count);
      if (slice.leaves) {
        const std::size_t before = stored.size();
        if (has_host) {
          stored.resize(before + static_cast<std::size_t>(cache.page_rows() * layout.row_bytes));
          cache.read_leaving_page(layout, stored.data() + before, kStream);
          device->wait(kStream);
        }
        cache.release_page(kStream);
      }
      cache.append(tokens().view(cache.length(), slice.tokens), 0, kStream);
      device->wait(kStream);
      count -= slice.tokens;
    }
  }
  [[nodiscard]] WindowCache::HostRow host_rows() const {
    if (!has_host) return {};
    return [this](std::int64_t row) { return stored.data() + row * tokens().layout().row_bytes; };
  }
  void truncate(std::int64_t length) {
    cache.truncate(cache.cut_at(length, tokens().layout(), host_rows()), kStream);
    device->wait(kStream);
    if (has_host) stored.resize(static_cast<std::size_t>(cache.left() * tokens().layout().row_bytes));
  }
  [[nodiscard]] OwnedWindow fork(std::int64_t length) const {
    OwnedWindow copy{device, cache.fork(length, tokens().layout(), host_rows(), kStream), has_host, stored};
    device->wait(kStream);
    if (has_host) copy.stored.resize(static_cast<std::size_t>(copy.cache.left() * tokens().layout().row_bytes));
    return copy;
  }
};

class CodedWindow
    : public ::testing::TestWithParam<std::tuple<cpu::CodecParams, int /*sinks*/, int /*local*/, DeviceKind>> {
 protected:
  [[nodiscard]] static std::int64_t sinks() { return std::get<1>(GetParam()); }
  [[nodiscard]] static std::int64_t local() { return std::get<2>(GetParam()); }
  static constexpr std::int64_t kResidual = 128;
  [[nodiscard]] WindowParams params() const {
    return {static_cast<std::int32_t>(sinks()), static_cast<std::int32_t>(local()), DType::f32, std::get<0>(GetParam()),
            static_cast<std::int32_t>(kResidual)};
  }
  [[nodiscard]] OwnedWindow make(bool has_host = true) const {
    return {device_.get(), WindowCache(*device_, tokens().layout(), params(), &codec_, 0), has_host};
  }
  [[nodiscard]] std::vector<std::byte> encoded(std::int64_t first) const {
    std::vector<std::byte> block(static_cast<std::size_t>(codec_.format().block_bytes));
    codec_.encode(tokens().k(first), tokens().v(first), first, block.data());
    return block;
  }
  /// Every held token is what it should be: a row as it was written, or in the block that the codec makes of it.
  void expect_held(const OwnedWindow& window) const {
    const WindowView view = window.cache.view();
    const std::int64_t length = window.cache.length();
    for (std::int64_t p = 0; p < length; ++p) {
      if (p >= view.sinks && p < view.raw_begin) continue;
      ASSERT_EQ(std::memcmp(view.row(p), tokens().row(p).data(), static_cast<std::size_t>(view.layout.row_bytes)), 0)
          << "position " << p << " of " << length;
    }
    for (std::int64_t p = view.local_begin; p < view.raw_begin; p += codec_.format().block_rows) {
      ASSERT_EQ(view.block_begin(p), p);
      const auto block = encoded(p);
      ASSERT_EQ(std::memcmp(view.block(p), block.data(), block.size()), 0) << "block at " << p << " of " << length;
    }
  }
  /// What is rows, codes and forgotten after `length` tokens, in closed form.
  void expect_shares(const OwnedWindow& window) const {
    const std::int64_t page = codec_.format().block_rows;
    const std::int64_t length = window.cache.length();
    const std::int64_t excess = std::max<std::int64_t>(0, length - sinks() - kResidual - page);
    const std::int64_t left = (excess + page - 1) / page * page;
    const std::int64_t coded = (local() - kResidual + page - 1) / page * page;
    ASSERT_EQ(window.cache.left(), left) << length;
    ASSERT_EQ(window.cache.evicted(), std::max<std::int64_t>(0, left - coded)) << length;
    ASSERT_TRUE(window.cache.evicted() == 0 || length - window.cache.view().local_begin >= local()) << length;
  }

  numa::Topology topology_ = numa::Topology::detect();
  numa::MemoryLedger ledger_{std::int64_t{1} << 30};
  std::unique_ptr<Device> device_ =
      make_device(std::get<3>(GetParam()), cpu::kernels_for(cpu::Isa::scalar), topology_, ledger_);
  cpu::BlockCodec codec_{std::get<0>(GetParam()), kShape, {}, 0, 0};
};

INSTANTIATE_TEST_SUITE_P(
    Codecs, CodedWindow,
    ::testing::Combine(::testing::Values(tandem::testing::codec_of(cpu::CodecKind::int8), tandem::testing::kivi(4, 32),
                                         tandem::testing::kivi(2, 128), tandem::testing::qjl(64, 4)),
                       ::testing::Values(0, 4, 70), ::testing::Values(129, 256, 400), device_kinds()),
    [](const auto& test) {
      return concat(tandem::testing::name_of(std::get<0>(test.param)), "_s", std::get<1>(test.param), "_l",
                    std::get<2>(test.param), "_", to_string(std::get<3>(test.param)));
    });

TEST_P(CodedWindow, HoldsWhatTheNumberOfTokensSays) {
  CounterRandom random(1, 0);
  for (const std::int64_t most : {1, 7, 300}) {
    OwnedWindow window = make();
    while (window.cache.length() < 700) {
      const auto count = 1 + static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(most)));
      const std::int64_t before = window.cache.left();
      const std::int64_t predicted = window.cache.leaving_for(count);
      window.push(count);
      ASSERT_EQ(window.cache.left() - before, predicted);
      ASSERT_NO_FATAL_FAILURE(expect_shares(window));
      if (window.cache.length() % 41 == 0 || most > 1) {
        ASSERT_NO_FATAL_FAILURE(expect_held(window));
      }
    }
    ASSERT_EQ(static_cast<std::int64_t>(window.stored.size()), window.cache.left() * tokens().layout().row_bytes)
        << "the host tier has what left the rows";
    for (std::int64_t r = 0; r < window.cache.left(); ++r) {
      const auto row = tokens().row(sinks() + r);
      ASSERT_EQ(std::memcmp(window.stored.data() + r * tokens().layout().row_bytes, row.data(), row.size()), 0)
          << "exactly, not as it was decoded";
    }
  }
}

TEST_P(CodedWindow, IsCutAsIfItHadNeverBeenLonger) {
  OwnedWindow source = make();
  source.push(760);
  for (std::int64_t length = 0; length <= 760; length += length % 64 > 1 && length % 64 < 62 ? 13 : 1) {
    OwnedWindow window = source.fork(length);
    ASSERT_EQ(window.cache.length(), length);
    ASSERT_NO_FATAL_FAILURE(expect_shares(window));
    ASSERT_NO_FATAL_FAILURE(expect_held(window));
    if (length % 10 == 0) {
      window.push(kPositions - length);
      ASSERT_NO_FATAL_FAILURE(expect_held(window)) << "going on from " << length;
    }
  }
  ASSERT_NO_FATAL_FAILURE(expect_held(source));
  for (const std::int64_t length : {759, 640, 500, 333, 140, 3, 0}) {
    source.truncate(length);
    ASSERT_NO_FATAL_FAILURE(expect_shares(source));
    ASSERT_NO_FATAL_FAILURE(expect_held(source)) << "cut again and again, now to " << length;
  }
}

TEST_P(CodedWindow, WithoutAHostTierCodedTokensComeBackDecoded) {
  OwnedWindow window = make(false);
  window.push(760);
  const WindowView before = window.cache.view();
  const std::int64_t length = std::max(before.raw_begin - 3, window.cache.shortest_cut());
  if (length >= before.raw_begin || length - before.local_begin < 1) GTEST_SKIP() << "nothing coded is held";
  std::vector<float> k(64), v(128);
  const std::int64_t begin = before.block_begin(length - 1);
  codec_.decode(before.block(length - 1), begin, static_cast<int>(length - 1 - begin), 1, k.data(), v.data());
  const std::int64_t evicted = window.cache.evicted();
  window.truncate(length);
  EXPECT_EQ(window.cache.length(), length);
  EXPECT_EQ(window.cache.evicted(), evicted) << "what was forgotten stays away";
  const WindowView view = window.cache.view();
  ASSERT_FALSE(view.is_coded(length - 1));
  std::vector<float> row_k(64), row_v(128);
  cpu::load_key(view.layout, view.row(length - 1), row_k.data());
  cpu::load_value(view.layout, view.row(length - 1), row_v.data());
  EXPECT_EQ(row_k, k);
  EXPECT_EQ(row_v, v);
  window.push(kPositions - length);
  EXPECT_EQ(window.cache.length(), kPositions);
}

TEST_P(CodedWindow, ReadsCodedRowsAsTheyAreDecoded) {
  OwnedWindow window = make();
  window.push(500);
  const WindowView view = window.cache.view();
  const std::int64_t count = view.raw_begin - view.local_begin + 5;
  const cpu::RowLayout layout = cpu::RowLayout::of(kShape, DType::f32);
  std::vector<std::byte> rows(static_cast<std::size_t>(count * layout.row_bytes));
  device_->read_rows(view, view.local_begin, count, layout, rows.data(), kStream);
  device_->wait(kStream);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t p = view.local_begin + i;
    std::vector<float> k(64), v(128), read_k(64), read_v(128);
    if (view.is_coded(p)) {
      const std::int64_t begin = view.block_begin(p);
      codec_.decode(encoded(begin).data(), begin, static_cast<int>(p - begin), 1, k.data(), v.data());
    } else {
      std::copy_n(tokens().k(p), 64, k.begin());
      std::copy_n(tokens().v(p), 128, v.begin());
    }
    cpu::load_key(layout, rows.data() + i * layout.row_bytes, read_k.data());
    cpu::load_value(layout, rows.data() + i * layout.row_bytes, read_v.data());
    ASSERT_EQ(read_k, k) << p;
    ASSERT_EQ(read_v, v) << p;
  }
}

}  // namespace
}  // namespace tandem::gpu
