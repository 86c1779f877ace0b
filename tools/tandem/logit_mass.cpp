#include "tools/tandem/logit_mass.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tandem::cli {

LogitMass::LogitMass(const float* queries, std::int64_t count, std::int64_t dim, float scale)
    : queries_(queries),
      count_(count),
      dim_(dim),
      scale_(scale),
      tile_(static_cast<std::size_t>(dim * kTile)),
      max_(static_cast<std::size_t>(count), -std::numeric_limits<double>::infinity()),
      sum_(static_cast<std::size_t>(count), 0.0) {}

void LogitMass::add(const float* keys, std::int64_t rows) {
  for (std::int64_t first = 0; first < rows; first += kTile) {
    const std::int64_t count = std::min(kTile, rows - first);
    for (std::int64_t r = 0; r < count; ++r) {
      for (std::int64_t d = 0; d < dim_; ++d)
        tile_[static_cast<std::size_t>(d * kTile + r)] = keys[(first + r) * dim_ + d];
    }
    add_tile(count);
  }
}

void LogitMass::add_tile(std::int64_t rows) {
  for (std::int64_t i = 0; i < count_; ++i) {
    float logits[kTile] = {};
    const float* q = queries_ + i * dim_;
    const float* keys = tile_.data();
    for (std::int64_t d = 0; d < dim_; ++d, keys += kTile) {
      for (std::int64_t r = 0; r < kTile; ++r) logits[r] += q[d] * keys[r];
    }
    double& max = max_[static_cast<std::size_t>(i)];
    double& sum = sum_[static_cast<std::size_t>(i)];
    const double largest = double{*std::max_element(logits, logits + rows)} * scale_;
    if (largest > max) {
      sum *= std::exp(max - largest);
      max = largest;
    }
    float part = 0;
    for (std::int64_t r = 0; r < rows; ++r) part += std::exp(logits[r] * scale_ - static_cast<float>(max));
    sum += part;
  }
}

double LogitMass::lse(std::int64_t query) const {
  return max_[static_cast<std::size_t>(query)] + std::log(sum_[static_cast<std::size_t>(query)]);
}

}  // namespace tandem::cli
