// What codec nuq learns from samples, and which calibrations are refused.
#include <algorithm>
#include <functional>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cpu/codec/codec_params.h"
#include "cpu/codec/k_means.h"
#include "runtime/base/error.h"
#include "tests/support/nuq_fixture.h"

namespace tandem::cpu {
namespace {

using testing::channel_normals;
using ::testing::HasSubstr;

const NuqShape kShape{2, 2, 8, 6, {1e4, 0, false}, 0.02};
const std::vector<std::int32_t> kAllBits{2, 3, 4};

struct Samples {
  explicit Samples(std::int64_t count, const NuqShape& shape = kShape) : tokens(count) {
    CounterRandom random(7, 2);
    k = channel_normals(random, tokens, shape.num_kv_heads, shape.head_dim_k);
    v = channel_normals(random, tokens, shape.num_kv_heads, shape.head_dim_v);
  }
  [[nodiscard]] NuqSamples view() const { return {tokens, k.data(), v.data()}; }
  std::int64_t tokens;
  std::vector<float> k, v;
};

class NuqFit : public ::testing::TestWithParam<double /*outliers*/> {};
INSTANTIATE_TEST_SUITE_P(Shares, NuqFit, ::testing::Values(0.0, 0.01, 0.02, 0.1));

TEST_P(NuqFit, LeavesItsShareOfEveryChannelOut) {
  NuqShape shape = kShape;
  shape.outliers = GetParam();
  const Samples samples(500);
  const NuqLayer layer = fit_nuq_layer(shape, samples.view(), kAllBits);
  const std::size_t channels = layer.channels.size();
  ASSERT_EQ(channels, 16u);
  const auto apart = static_cast<int>(500 * shape.outliers / 2);
  for (std::size_t c = 0; c < channels; ++c) {
    int below = 0, above = 0;
    const auto [offset, scale] = layer.channels[c];
    for (std::size_t t = 0; t < 500; ++t) {
      const double x = samples.k[t * channels + c], slack = 3e-7 * (std::abs(offset) + scale);
      below += x < static_cast<double>(offset) - scale - slack ? 1 : 0;
      above += x > static_cast<double>(offset) + scale + slack ? 1 : 0;
    }
    EXPECT_EQ(below, apart);
    EXPECT_EQ(above, apart);
  }
}

TEST_P(NuqFit, LevelsBeatTheGridOnWhatTheyWereLearntFrom) {
  NuqShape shape = kShape;
  shape.outliers = GetParam();
  const Samples samples(500);
  const NuqLayer layer = fit_nuq_layer(shape, samples.view(), kAllBits);
  std::vector<float> keys, values;
  for (std::size_t i = 0; i < samples.k.size(); ++i) {
    const auto [offset, scale] = layer.channels[i % layer.channels.size()];
    const float x = (samples.k[i] - offset) / scale;
    if (std::abs(x) <= 1.f) keys.push_back(x);
  }
  for (std::size_t row = 0; row < samples.v.size() / 6; ++row) {
    const auto [offset, scale] = nuq_value_range(samples.v.data() + row * 6, 6, shape.value_outliers());
    for (std::size_t d = 0; d < 6; ++d) {
      const float x = (samples.v[row * 6 + d] - offset) / scale;
      if (std::abs(x) <= 1.f) values.push_back(x);
    }
  }
  for (const int bits : kAllBits) {
    for (const auto& [levels, points] : {std::pair{layer.of_k(bits), keys}, {layer.of_v(bits), values}}) {
      EXPECT_EQ(levels.size(), std::size_t{1} << bits);
      EXPECT_TRUE(std::is_sorted(levels.begin(), levels.end()));
      const WeightedPoints weighted(points);
      EXPECT_LE(weighted.error(levels), weighted.error(even_grid(-1.f, 1.f, 1 << bits)) * 1.0001);
    }
  }
}

TEST(NuqFitting, IsDeterministicAndFitsTheShape) {
  const Samples samples(100);
  const auto layer = fit_nuq_layer(kShape, samples.view(), kAllBits),
             again = fit_nuq_layer(kShape, samples.view(), kAllBits);
  EXPECT_EQ(layer.levels_k, again.levels_k);
  EXPECT_EQ(layer.levels_v, again.levels_v);
  EXPECT_NO_THROW(NuqCalibration(kShape, {layer, again}));
}

TEST(NuqFitting, OneTokenAndConstantChannelsHaveNoScale) {
  const Samples one(1);
  for (const auto& [offset, scale] : fit_nuq_layer(kShape, one.view(), kAllBits).channels) EXPECT_EQ(scale, 0.f);
  Samples samples(50);
  for (std::size_t i = 0; i < samples.k.size(); i += 16) samples.k[i] = 2.5f;
  const auto layer = fit_nuq_layer(kShape, samples.view(), kAllBits);
  EXPECT_EQ(layer.channels[0].offset, 2.5f);
  EXPECT_EQ(layer.channels[0].scale, 0.f);
  EXPECT_GT(layer.channels[1].scale, 0.f);
}

TEST(NuqFitting, WeightsDrawLevelsToThem) {
  Samples samples(400);
  std::vector<float> k_weights(samples.k.size(), 1.f);
  const auto plain = fit_nuq_layer(kShape, samples.view(), kAllBits);
  for (std::size_t i = 0; i < samples.k.size(); ++i)
    if (samples.k[i] > plain.channels[i % plain.channels.size()].offset) k_weights[i] = 100.f;
  NuqSamples view = samples.view();
  view.k_weights = k_weights.data();
  const auto weighted = fit_nuq_layer(kShape, view, kAllBits);
  const auto positive = [](const std::vector<float>& levels) {
    return std::count_if(levels.begin(), levels.end(), [](float x) { return x > 0.f; });
  };
  EXPECT_EQ(plain.levels_v, weighted.levels_v);
  EXPECT_GT(positive(weighted.of_k(4)), positive(plain.of_k(4)));
}

TEST(NuqFitting, RefusesBadSamplesByName) {
  const auto message = [](const std::function<void(Samples&, NuqSamples&)>& spoil, std::vector<std::int32_t> bits) {
    Samples samples(4);
    NuqSamples view = samples.view();
    spoil(samples, view);
    try {
      fit_nuq_layer(kShape, view, bits);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  static const std::vector<float> kNegative(64, -1.f);
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(message([](auto&, auto& v) { v.tokens = 0; }, {4}), HasSubstr("samples.tokens is 0; allowed: 1"));
  EXPECT_THAT(message([](auto& s, auto&) { s.k[3] = kNan; }, {4}), HasSubstr("samples.k[3] is nan"));
  EXPECT_THAT(message([](auto& s, auto&) { s.v[5] = 1e17f; }, {4}), HasSubstr("samples.v[5] is 1e+17"));
  EXPECT_THAT(message([](auto&, auto& v) { v.k_weights = kNegative.data(); }, {4}),
              HasSubstr("samples.k_weights[0] is -1"));
  EXPECT_THAT(message([](auto&, auto&) {}, {5}), HasSubstr("bits is 5; allowed: 2 to 4"));
}

TEST(NuqShapes, SayHowMuchRoomOutliersHave) {
  const auto room = [](double share, std::int32_t dim) {
    const NuqShape shape{1, 1, dim, dim, {}, share};
    return std::pair{shape.key_outliers(), shape.value_outliers()};
  };
  EXPECT_EQ(room(0.0, 128), std::pair(0, 0));
  EXPECT_EQ(room(0.01, 128), std::pair(4, 1));
  EXPECT_EQ(room(0.01, 64), std::pair(3, 1));
  EXPECT_EQ(room(0.1, 256), std::pair(28, 13));
  EXPECT_EQ(room(0.01, 1), std::pair(1, 0));
  EXPECT_EQ(room(0.01, 2), std::pair(2, 0));
}

/// A calibration, spoilt in one way, and what the refusal says.
struct Spoilt {
  const char* name;
  std::function<void(NuqShape&, std::vector<NuqLayer>&)> spoil;
  const char* message;
};

class SpoiltCalibration : public ::testing::TestWithParam<Spoilt> {};
INSTANTIATE_TEST_SUITE_P(
    Fields, SpoiltCalibration,
    ::testing::Values(
        Spoilt{"layers", [](auto&, auto& l) { l.pop_back(); }, "nuq.layers has 1 layers; allowed: num_layers (2)"},
        Spoilt{"num_layers", [](auto& s, auto&) { s.num_layers = 0; }, "nuq.num_layers is 0; allowed: 1 to 65536"},
        Spoilt{"kv_heads", [](auto& s, auto&) { s.num_kv_heads = 3; },
               "nuq.layers[0].channels has 16 ranges; allowed: "
               "num_kv_heads * head_dim_k (24)"},
        Spoilt{"dim", [](auto& s, auto&) { s.head_dim_v = 2000; }, "nuq.head_dim_v is 2000; allowed: 1 to 1024"},
        Spoilt{"outliers", [](auto& s, auto&) { s.outliers = 0.5; }, "nuq.outliers is 0.5; allowed: 0 to 0.1"},
        Spoilt{"rope", [](auto& s, auto&) { s.rope.dims = 9; }, "rope_dims is 9; allowed: even numbers up to"},
        Spoilt{"offset", [](auto&, auto& l) { l[1].channels[3].offset = INFINITY; },
               "nuq.layers[1].channels[3].offset is inf"},
        Spoilt{"scale", [](auto&, auto& l) { l[1].channels[3].scale = -1.f; },
               "nuq.layers[1].channels[3].scale is -1; allowed: 0 to"},
        Spoilt{"nan", [](auto&, auto& l) { l[0].levels_v[1][2] = NAN; }, "nuq.layers[0].levels_v[3][2] is nan"},
        Spoilt{"order", [](auto&, auto& l) { std::swap(l[0].levels_k[2][0], l[0].levels_k[2][1]); },
               "nuq.layers[0].levels_k[4][1] is "},
        Spoilt{"beyond", [](auto&, auto& l) { l[0].levels_k[2][15] = 1.5f; },
               "[15] is 1.5; allowed: ascending from -1"},
        Spoilt{"uneven", [](auto&, auto& l) { l[1].levels_k[0].clear(); },
               "nuq.layers[1].levels_k[2] has 0 levels; allowed: 4"},
        Spoilt{"none", [](auto&, auto& l) { l[0].levels_k = {}; }, "nuq.layers[0].levels_k has no levels"}),
    [](const auto& test) { return test.param.name; });

TEST_P(SpoiltCalibration, IsRefusedByName) {
  NuqShape shape = kShape;
  const Samples samples(60);
  std::vector<NuqLayer> layers(2, fit_nuq_layer(kShape, samples.view(), kAllBits));
  GetParam().spoil(shape, layers);
  try {
    const NuqCalibration calibration(shape, layers);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_THAT(error.what(), HasSubstr(GetParam().message));
  }
}

/// Why a codec of these parameters is refused.
std::string refusal(const CodecParams& params, const AttentionShape& shape, const RopeParams& rope) {
  try {
    validate(params, shape, rope);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    return error.what();
  }
  return "accepted";
}

TEST(NuqParams, NeedACalibrationOfTheModel) {
  const AttentionShape shape = resolved({2, 4, 2, 8, 6, 0.f, 0.f});
  const RopeParams rope = kShape.rope;
  CodecParams params;
  params.kind = CodecKind::nuq;
  EXPECT_THAT(refusal(params, shape, rope), HasSubstr("calibration is missing"));
  params.calibration = testing::nuq_calibration(kShape);
  EXPECT_EQ(refusal(params, shape, rope), "accepted");
  EXPECT_EQ(refusal(params, shape, {1e4, 8, false}), "accepted");  // 8 is all of them
  params.bits = 5;
  EXPECT_THAT(refusal(params, shape, rope),
              HasSubstr("bits is 5; allowed: what the calibration has levels for (2, 3, 4)"));
  params.bits = 3;
  EXPECT_THAT(refusal(params, resolved({3, 4, 2, 8, 6, 0.f, 0.f}), rope),
              HasSubstr("calibration.num_layers is 2; allowed: 3"));
  EXPECT_THAT(refusal(params, resolved({2, 4, 4, 8, 6, 0.f, 0.f}), rope),
              HasSubstr("calibration.num_kv_heads is 2; allowed: 4"));
  EXPECT_THAT(refusal(params, resolved({2, 4, 2, 16, 6, 0.f, 0.f}), rope),
              HasSubstr("calibration.head_dim_k is 8; allowed: 16"));
  EXPECT_THAT(refusal(params, resolved({2, 4, 2, 8, 8, 0.f, 0.f}), rope),
              HasSubstr("calibration.head_dim_v is 6; allowed: 8"));
  EXPECT_THAT(refusal(params, shape, {}), HasSubstr("rope_theta is 0; codec nuq turns keys back"));
  EXPECT_THAT(refusal(params, shape, {1e6, 0, false}), HasSubstr("calibration.rope_theta is 10000; allowed: 1e+06"));
  EXPECT_THAT(refusal(params, shape, {1e4, 4, false}), HasSubstr("calibration.rope_dims is 8; allowed: 4"));
  EXPECT_THAT(refusal(params, shape, {1e4, 0, true}), HasSubstr("calibration.rope_interleaved is 0; allowed: 1"));
}

}  // namespace
}  // namespace tandem::cpu
