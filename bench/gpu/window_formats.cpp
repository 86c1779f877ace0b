#include "bench/gpu/window_formats.h"

#include <memory>

#include "cpu/codec/nuq_fit.h"
#include "runtime/base/error.h"
#include "runtime/base/random.h"

namespace tandem::bench {
namespace {

constexpr cpu::RopeParams kRope{5e5, 0, false};

WindowFormat plain(cpu::CodecKind kind, const std::string& name) {
  WindowFormat format{name, {}, {}};
  format.codec.kind = kind;
  return format;
}

WindowFormat kivi(std::int32_t bits, std::int32_t group) {
  WindowFormat format = plain(cpu::CodecKind::kivi, concat("kivi", bits, "_group", group));
  format.codec.bits = bits;
  format.codec.group = group;
  return format;
}

WindowFormat qjl(std::int32_t sketch_bits, std::int32_t outliers) {
  WindowFormat format = plain(cpu::CodecKind::qjl, concat("qjl", sketch_bits, "_outliers", outliers));
  format.codec.sketch_bits = sketch_bits;
  format.codec.outliers = outliers;
  return format;
}

WindowFormat nuq(std::int32_t bits) {
  WindowFormat format = plain(cpu::CodecKind::nuq, concat("nuq", bits));
  format.codec.bits = bits;
  format.rope = kRope;
  return format;
}

std::vector<WindowFormat> uncalibrated() {
  using Kind = cpu::CodecKind;
  return {plain(Kind::none, "bf16"),
          plain(Kind::int8, "int8"),
          plain(Kind::fp8, "fp8"),
          kivi(4, 32),
          kivi(2, 32),
          kivi(4, 128),
          kivi(2, 128),
          qjl(256, 8),
          nuq(4),
          nuq(3),
          nuq(2)};
}

/// Of normal keys and values, as the windows hold.
std::shared_ptr<const cpu::NuqCalibration> calibration(std::int32_t head_dim) {
  constexpr std::int64_t kTokens = 512;
  const cpu::NuqShape shape{1, 1, head_dim, head_dim, kRope, 0.01};
  CounterRandom random(4, 0);
  std::vector<float> k(static_cast<std::size_t>(kTokens * head_dim)), v(k.size());
  for (auto* x : {&k, &v}) {
    for (float& element : *x) element = static_cast<float>(random.normal());
  }
  const std::vector<std::int32_t> bits{2, 3, 4};
  return std::make_shared<const cpu::NuqCalibration>(
      shape, std::vector{cpu::fit_nuq_layer(shape, {kTokens, k.data(), v.data()}, bits)});
}

}  // namespace

std::vector<WindowFormat> window_formats(std::int32_t head_dim) {
  std::vector<WindowFormat> formats;
  std::shared_ptr<const cpu::NuqCalibration> levels;
  for (WindowFormat format : uncalibrated()) {
    if (format.codec.kind == cpu::CodecKind::kivi && head_dim % format.codec.group != 0) continue;
    if (format.codec.kind == cpu::CodecKind::nuq) {
      if (levels == nullptr) levels = calibration(head_dim);
      format.codec.calibration = levels;
    }
    formats.push_back(std::move(format));
  }
  return formats;
}

std::vector<std::string> window_format_names() {
  std::vector<std::string> names;
  for (const WindowFormat& format : uncalibrated()) names.push_back(format.name);
  return names;
}

}  // namespace tandem::bench
