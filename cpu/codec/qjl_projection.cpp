#include "cpu/codec/qjl_projection.h"

#include <cmath>
#include <map>
#include <mutex>
#include <numbers>
#include <tuple>
#include <vector>

#include "cpu/row_layout.h"
#include "runtime/base/random.h"

namespace tandem::cpu {
namespace {

constexpr std::uint64_t kColumnStream = std::uint64_t{4} << 32;  // apart from the streams of other uses of a seed

/// In four sums, which processors add side by side.
double dot(const double* a, const double* b, std::size_t count) {
  double sums[4] = {};
  std::size_t i = 0;
  for (; i + 4 <= count; i += 4) {
    for (std::size_t lane = 0; lane < 4; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  for (; i < count; ++i) sums[0] += a[i] * b[i];
  return sums[0] + sums[1] + (sums[2] + sums[3]);
}

/// Makes column `last` of a block of columns (last + 1, dim) orthogonal to those before it, of length sqrt(dim).
void orthogonalise(double* block, std::size_t last, std::size_t dim) {
  double* column = block + last * dim;
  const double length = std::sqrt(static_cast<double>(dim));
  for (std::size_t before = 0; before < last; ++before) {
    const double* other = block + before * dim;
    const double share = dot(other, column, dim) / (length * length);
    for (std::size_t c = 0; c < dim; ++c) column[c] -= share * other[c];
  }
  const double factor = length / std::sqrt(dot(column, column, dim));
  for (std::size_t c = 0; c < dim; ++c) column[c] *= factor;
}

AlignedVector<float> make_projection(std::uint64_t seed, std::size_t dim, std::size_t num_columns, bool orthogonal) {
  std::vector<double> block(dim * dim);  // columns side by side, dim at a time
  AlignedVector<float> projection(static_cast<std::size_t>(padded(static_cast<std::int32_t>(dim))) * num_columns, 0.f);
  for (std::size_t j = 0; j < num_columns; ++j) {
    CounterRandom random(seed, kColumnStream + j);
    double* column = block.data() + j % dim * dim;
    for (std::size_t c = 0; c < dim; ++c) column[c] = random.normal();
    if (orthogonal) orthogonalise(block.data(), j % dim, dim);
    for (std::size_t c = 0; c < dim; ++c) projection[c * num_columns + j] = static_cast<float>(column[c]);
  }
  return projection;
}

}  // namespace

std::shared_ptr<const AlignedVector<float>> qjl_projection(std::uint64_t seed, std::int32_t head_dim,
                                                           std::int32_t num_columns, bool orthogonal) {
  // All layers and heads of a model use one projection: shared, it stays in the cache, and is made once.
  using Key = std::tuple<std::uint64_t, std::int32_t, std::int32_t, bool>;
  static std::mutex mutex;
  static std::map<Key, std::weak_ptr<const AlignedVector<float>>> in_use;
  const std::lock_guard lock(mutex);
  std::erase_if(in_use, [](const auto& entry) { return entry.second.expired(); });
  auto& entry = in_use[Key(seed, head_dim, num_columns, orthogonal)];
  auto projection = entry.lock();
  if (projection == nullptr) {
    projection = std::make_shared<const AlignedVector<float>>(
        make_projection(seed, static_cast<std::size_t>(head_dim), static_cast<std::size_t>(num_columns), orthogonal));
    entry = projection;
  }
  return projection;
}

double qjl_bias(std::int32_t head_dim, bool orthogonal) noexcept {
  if (!orthogonal) return 1.0;
  // Gamma(d / 2) / Gamma((d + 1) / 2) is sqrt(pi) at d = 1, 2 / sqrt(pi) at 2, and d / (d + 1) times as much at d + 2.
  const bool odd = head_dim % 2 != 0;
  double ratio = odd ? std::sqrt(std::numbers::pi) : 2 / std::sqrt(std::numbers::pi);
  for (int d = odd ? 1 : 2; d < head_dim; d += 2) ratio *= static_cast<double>(d) / (d + 1);
  return std::sqrt(head_dim / 2.0) * ratio;
}

}  // namespace tandem::cpu
