#pragma once

#include <cmath>
#include <memory>
#include <vector>

#include "cpu/codec/nuq_fit.h"
#include "runtime/base/random.h"

namespace tandem::testing {

/// Keys or values (tokens, heads, dim): channel c of a head is normal around c % 3 - 1 with a deviation of 2^(c % 4 -
/// 2).
inline std::vector<float> channel_normals(CounterRandom& random, std::int64_t tokens, int heads, int dim) {
  std::vector<float> x;
  for (std::int64_t i = 0; i < tokens * heads * dim; ++i) {
    const auto channel = i % dim;
    x.push_back(static_cast<float>(static_cast<double>(channel % 3 - 1) +
                                   std::ldexp(random.normal(), static_cast<int>(channel % 4) - 2)));
  }
  return x;
}

/// A calibration for normal keys and values of deviation 1, as CodedHead makes them, or for channel_normals.
inline std::shared_ptr<const cpu::NuqCalibration> nuq_calibration(const cpu::NuqShape& shape, bool alike = true,
                                                                  std::int64_t tokens = 400) {
  const std::vector<std::int32_t> bits{2, 3, 4};
  std::vector<cpu::NuqLayer> layers;
  for (std::int32_t layer = 0; layer < shape.num_layers; ++layer) {
    CounterRandom random(11, static_cast<std::uint64_t>(layer));
    const auto samples = [&](int dim) {
      if (!alike) return channel_normals(random, tokens, shape.num_kv_heads, dim);
      std::vector<float> x;
      for (std::int64_t i = 0; i < tokens * shape.num_kv_heads * dim; ++i)
        x.push_back(static_cast<float>(random.normal()));
      return x;
    };
    const auto k = samples(shape.head_dim_k), v = samples(shape.head_dim_v);
    layers.push_back(cpu::fit_nuq_layer(shape, {tokens, k.data(), v.data()}, bits));
  }
  return std::make_shared<const cpu::NuqCalibration>(shape, std::move(layers));
}

}  // namespace tandem::testing
