#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "tests/support/coded_head.h"
#include "tests/support/nuq_fixture.h"

namespace tandem::testing {

/// Dimensions of K and V and how K is rotated.
struct NuqHead {
  std::int32_t dim_k, dim_v;
  cpu::RopeParams rope;
};

inline const NuqHead kNuqHeads[] = {
    {64, 64, {1e6, 0, false}},
    {80, 80, {1e4, 32, false}},
    {96, 96, {1e4, 0, true}},
    {128, 128, {5e5, 0, false}},
    {256, 256, {1e6, 0, false}},
    {72, 40, {1e4, 36, true}},
    {17, 33, {}},
    {1, 1, {}},
};

inline cpu::NuqShape nuq_shape(const NuqHead& head, double outliers = 0.01) {
  return {1, 1, head.dim_k, head.dim_v, head.rope, outliers};
}

inline cpu::CodecParams nuq_params(const NuqHead& head, int bits, double outliers = 0.01) {
  static std::vector<std::shared_ptr<const cpu::NuqCalibration>> known;  // learning takes longer than most tests
  const cpu::NuqShape shape = nuq_shape(head, outliers);
  auto found = std::find_if(known.begin(), known.end(), [&](const auto& c) { return c->shape() == shape; });
  if (found == known.end()) found = known.insert(known.end(), nuq_calibration(shape));
  cpu::CodecParams params;
  params.kind = cpu::CodecKind::nuq;
  params.bits = bits;
  params.calibration = *found;
  return params;
}

/// `scale` of queries that come scaled: CodedHead's are.
inline AttentionShape attention_shape(const NuqHead& head, int group = 1) {
  return resolved({1, group, 1, head.dim_k, head.dim_v, 0.f, 0.f});
}

inline CodedHead::Options options(double key_scale, double value_scale, const NuqHead& head,
                                  std::int64_t position = 0) {
  return {.key_scale = key_scale, .value_scale = value_scale, .first_position = position, .rope = head.rope};
}

}  // namespace tandem::testing
