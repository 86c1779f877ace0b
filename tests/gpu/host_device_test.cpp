#include "gpu/host/host_device.h"

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cpu/reference_attention.h"
#include "gpu/window_cache.h"
#include "runtime/base/error.h"
#include "runtime/base/random.h"
#include "tests/support/deferred_device.h"

namespace tandem::gpu {
namespace {

constexpr Stream kStream{};
constexpr double kTolerance = 2e-5;

struct Case {
  int dim_k = 64;
  int dim_v = 64;
  int group = 2;
  std::int32_t sinks = 4;
  std::int32_t local = 64;
  DType dtype = DType::f32;
  std::int64_t tokens = 300;
  int queries = 1;
  float softcap = 0.f;
  bool alibi = false;
  std::int64_t sliding_window = 0;
};

/// One KV head: random tokens in a window, random queries of the last of them, and the same in double.
class Problem {
 public:
  Problem(Device& device, const Case& c)
      : case_(c),
        layout_(cpu::RowLayout::of({1, c.group, 1, c.dim_k, c.dim_v, 1.f, 0.f}, c.dtype)),
        window_(device, layout_, {c.sinks, c.local, c.dtype}, nullptr, 0) {
    CounterRandom random(17, static_cast<std::uint64_t>(c.tokens));
    k_ = normals(random, c.tokens * c.dim_k, c.dtype);
    v_ = normals(random, c.tokens * c.dim_v, c.dtype);
    for (int h = 0; h < c.group; ++h) slopes_.push_back(0.3f / static_cast<float>(h + 1));
    fill();
    const auto vectors = static_cast<std::size_t>(c.queries * c.group);
    const auto scale = 1.f / std::sqrt(static_cast<float>(c.dim_k));
    q_.resize(vectors * static_cast<std::size_t>(layout_.padded_k), 0.f);
    for (std::size_t v = 0; v < vectors; ++v) {
      for (int d = 0; d < c.dim_k; ++d)
        q_[v * static_cast<std::size_t>(layout_.padded_k) + static_cast<std::size_t>(d)] =
            scale * static_cast<float>(random.normal());
    }
    for (int i = 0; i < c.queries; ++i) positions_.push_back(c.tokens - c.queries + i);
    out_.resize(vectors * static_cast<std::size_t>(c.dim_v));
    lse_.resize(vectors);
  }

  [[nodiscard]] WindowAttention work() {
    return {window_.view(),
            {q_.data(), positions_.data(), case_.queries, case_.group},
            {case_.softcap, case_.alibi ? slopes_.data() : nullptr, case_.sliding_window},
            {out_.data(), lse_.data(), static_cast<std::int64_t>(lse_.size()), case_.dim_v}};
  }

  void expect_near_reference(const std::string& what) const {
    for (std::size_t v = 0; v < lse_.size(); ++v) {
      const auto expected = reference(v);
      double difference = 0;
      double norm = 0;
      for (std::size_t d = 0; d < expected.out.size(); ++d) {
        const double actual = out_[v * expected.out.size() + d];
        difference += (actual - expected.out[d]) * (actual - expected.out[d]);
        norm += expected.out[d] * expected.out[d];
      }
      if (std::isinf(expected.lse)) {
        EXPECT_EQ(lse_[v], -std::numeric_limits<float>::infinity()) << what;
        EXPECT_EQ(difference, 0.0) << what;
      } else {
        EXPECT_NEAR(lse_[v], expected.lse, kTolerance) << what << ", vector " << v;
        // Errors of weights are relative to the values, of size 1, and not to a sum of them that happens to be small.
        EXPECT_LT(std::sqrt(difference), kTolerance * std::max(std::sqrt(norm), 0.05)) << what << ", vector " << v;
      }
    }
  }
  [[nodiscard]] const std::vector<float>& out() const { return out_; }
  [[nodiscard]] const std::vector<float>& lse() const { return lse_; }

 private:
  static std::vector<float> normals(CounterRandom& random, std::int64_t count, DType dtype) {
    std::vector<float> values(static_cast<std::size_t>(count));
    std::vector<std::byte> stored(values.size() * bytes_of(dtype));
    for (float& x : values) x = static_cast<float>(random.normal());
    store_f32(dtype, values.data(), stored.data(), count);
    load_f32(dtype, stored.data(), values.data(), count);  // so that the window stores them without error
    return values;
  }
  void fill() {
    for (std::int64_t done = 0; done < case_.tokens;) {
      const auto slice = window_.next_slice(case_.tokens - done);
      if (slice.leaves) window_.release_page(kStream);
      const auto k = dense_view(std::as_const(k_).data(), DType::f32, case_.tokens, 1, case_.dim_k);
      const auto v = dense_view(std::as_const(v_).data(), DType::f32, case_.tokens, 1, case_.dim_v);
      window_.append({k.slice(done, slice.tokens), v.slice(done, slice.tokens)}, 0, kStream);
      done += slice.tokens;
    }
  }
  [[nodiscard]] cpu::reference::Result reference(std::size_t vector) const {
    const auto dim_k = static_cast<std::size_t>(case_.dim_k);
    const std::int64_t position = positions_[vector / static_cast<std::size_t>(case_.group)];
    const float slope = slopes_[vector % static_cast<std::size_t>(case_.group)];
    const float* q = q_.data() + vector * static_cast<std::size_t>(layout_.padded_k);
    const WindowView view = window_.view();
    std::vector<double> query(q, q + dim_k), keys(k_.begin(), k_.end()), values(v_.begin(), v_.end()), biases;
    for (std::int64_t p = 0; p < case_.tokens; ++p) {
      const bool held = p < view.sinks || p >= view.local_begin;
      const bool in_reach = case_.sliding_window == 0 || p > position - case_.sliding_window;
      const double bias = case_.alibi ? slope * static_cast<double>(p - position) : 0.0;
      biases.push_back(held && in_reach && p <= position ? bias : -std::numeric_limits<double>::infinity());
    }
    return cpu::reference::attention({query, keys, values, biases, 1.0, case_.softcap}, case_.dim_v);
  }

  Case case_;
  cpu::RowLayout layout_;
  WindowCache window_;
  std::vector<float> k_, v_, slopes_;
  cpu::AlignedVector<float> q_;
  std::vector<std::int64_t> positions_;
  std::vector<float> out_, lse_;
};

class DeviceAttention : public testing::TestWithParam<std::tuple<DeviceKind, cpu::Isa>> {
 protected:
  void expect_reference(const Case& c) {
    if (std::get<0>(GetParam()) == DeviceKind::cuda && std::max(c.dim_k, c.dim_v) > 256) {
      EXPECT_THROW(Problem(*device_, c), Error);
      return;
    }
    Problem problem(*device_, c);
    const WindowAttention work = problem.work();
    device_->window_attention(&work, 1, kStream);
    device_->wait(kStream);
    problem.expect_near_reference(concat("head_dim ", c.dim_k, "/", c.dim_v, ", group ", c.group, ", ", c.tokens,
                                         " tokens, ", c.queries, " queries, sliding ", c.sliding_window, ", softcap ",
                                         c.softcap, ", ", to_string(c.dtype)));
  }

  numa::Topology topology_ = numa::Topology::detect();
  numa::MemoryLedger ledger_{std::int64_t{1} << 30};
  const std::unique_ptr<Device> device_ =
      make_device(std::get<0>(GetParam()), cpu::kernels_for(std::get<1>(GetParam())), topology_, ledger_);
};

INSTANTIATE_TEST_SUITE_P(Devices, DeviceAttention,
                         testing::Combine(device_kinds(), testing::ValuesIn(cpu::available_isas())),
                         [](const auto& test) {
                           return concat(to_string(std::get<0>(test.param)), "_",
                                         cpu::to_string(std::get<1>(test.param)));
                         });

TEST_P(DeviceAttention, MatchesReferenceForEveryShape) {
  for (const int head_dim : {64, 80, 96, 128, 256}) {
    for (const int group : {1, 2, 4, 8}) {
      for (const int queries : {1, 5}) {
        expect_reference({.dim_k = head_dim, .dim_v = head_dim, .group = group, .queries = queries});
      }
    }
  }
}

TEST_P(DeviceAttention, MatchesReferenceWhenKAndVDiffer) {
  for (const auto& [dim_k, dim_v] : {std::pair{192, 128}, {64, 80}, {72, 40}, {1, 1}, {17, 257}}) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      expect_reference({.dim_k = dim_k, .dim_v = dim_v, .dtype = dtype, .queries = 3});
    }
  }
}

TEST_P(DeviceAttention, MatchesReferenceAtEveryFillOfTheRing) {
  for (const std::int32_t sinks : {0, 1, 4, 70}) {
    for (const std::int64_t tokens :
         {1, 2, 4, 5, 15, 16, 17, 63, 64, 65, 127, 128, 129, 132, 133, 196, 197, 198, 260}) {
      expect_reference(
          {.sinks = sinks, .tokens = tokens, .queries = static_cast<int>(std::min<std::int64_t>(tokens, 3))});
    }
  }
}

TEST_P(DeviceAttention, MatchesReferenceForBlocksOfQueries) {
  for (const int queries : {1, 2, 15, 16, 17, 64, 100}) {
    for (const int group : {1, 4}) {
      expect_reference({.group = group, .tokens = 200, .queries = queries});
      expect_reference({.group = group, .tokens = queries, .queries = queries});  // from the very first token on
    }
  }
}

TEST_P(DeviceAttention, SlidingWindowsCutTheRingAndTheSinks) {
  for (const std::int64_t tokens : {60, 260}) {
    for (const std::int64_t sliding : {1, 2, 16, 63, 64, 65, 100, 256, 257, 258, 259, 260, 261, 1 << 30}) {
      for (const int queries : {1, 7}) {
        expect_reference({.tokens = tokens, .queries = queries, .sliding_window = sliding});
        expect_reference({.sinks = 70, .local = 16, .tokens = tokens, .queries = queries, .sliding_window = sliding});
      }
    }
  }
}

TEST_P(DeviceAttention, SoftcapAndAlibiApplyToEveryHead) {
  for (const float softcap : {0.f, 0.5f, 30.f}) {
    for (const bool alibi : {false, true}) {
      for (const int queries : {1, 9}) {
        expect_reference({.group = 4, .queries = queries, .softcap = softcap, .alibi = alibi, .sliding_window = 150});
      }
    }
  }
}

TEST_P(DeviceAttention, AnEmptyViewIsEmptyNotNaN) {
  Problem problem(*device_, {.sinks = 0, .tokens = 300});
  WindowAttention work = problem.work();
  work.window.local_begin = work.window.raw_begin = work.window.end;
  device_->window_attention(&work, 1, kStream);
  device_->wait(kStream);
  for (const float x : problem.out()) EXPECT_EQ(x, 0.f);
  for (const float x : problem.lse()) EXPECT_EQ(x, -std::numeric_limits<float>::infinity());
}

TEST_P(DeviceAttention, ABatchHasTheBitsOfItsParts) {
  std::vector<Problem> together, alone;
  for (const std::int64_t tokens : {7, 300, 64}) {
    for (auto* list : {&together, &alone})
      list->emplace_back(*device_, Case{.dim_k = 80, .tokens = tokens, .queries = 3});
  }
  std::vector<WindowAttention> batch;
  for (Problem& problem : together) batch.push_back(problem.work());
  device_->window_attention(batch.data(), static_cast<std::int64_t>(batch.size()), kStream);
  device_->window_attention(nullptr, 0, kStream);
  device_->wait(kStream);
  for (std::size_t i = 0; i < alone.size(); ++i) {
    const WindowAttention work = alone[i].work();
    device_->window_attention(&work, 1, kStream);
    device_->wait(kStream);
    EXPECT_EQ(together[i].out(), alone[i].out());
    EXPECT_EQ(together[i].lse(), alone[i].lse());
  }
}

TEST_P(DeviceAttention, NamesItself) {
  if (std::get<0>(GetParam()) == DeviceKind::cuda) {
    EXPECT_THAT(device_->name(), testing::ContainsRegex("^cuda:0 .+"));
  } else {
    const std::string isa = cpu::to_string(std::get<1>(GetParam()));
    EXPECT_THAT(device_->name(), testing::EndsWith("host (" + isa + ")"));
  }
}

TEST(HostDevice, AllocatesZeroedMemoryAndRefusesWithFigures) {
  const auto topology = numa::Topology::detect();
  numa::MemoryLedger ledger(100'000);
  HostDevice device(cpu::kernels_for(cpu::Isa::scalar), topology, ledger);
  EXPECT_EQ(device.allocate(0, 0), nullptr);
  {
    const DeviceBuffer buffer(device, 10'000, 0);
    for (std::int64_t i = 0; i < buffer.bytes(); ++i) ASSERT_EQ(buffer.data()[i], std::byte{0});
    try {
      const DeviceBuffer refused(device, 1'000'000, 0);
      ADD_FAILURE() << "the ledger did not refuse";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
      EXPECT_THAT(error.what(), testing::ContainsRegex("needs .* \\([0-9]+ bytes\\), but only .* \\([0-9]+ bytes\\)"));
    }
  }
  EXPECT_EQ(ledger.used_bytes(), 0);
}

TEST(HostDevice, BuffersMove) {
  const auto topology = numa::Topology::detect();
  numa::MemoryLedger ledger(1'000'000);
  HostDevice device(cpu::kernels_for(cpu::Isa::scalar), topology, ledger);
  DeviceBuffer a(device, 100, 0);
  std::byte* data = a.data();
  DeviceBuffer b(std::move(a));
  EXPECT_EQ(b.data(), data);
  DeviceBuffer c(device, 200, 0);
  c = std::move(b);
  EXPECT_EQ(c.data(), data);
  EXPECT_EQ(c.bytes(), 100);
}

}  // namespace
}  // namespace tandem::gpu
