#include "tools/tandem/small_matrix.h"

#include <algorithm>
#include <cmath>

#include "runtime/base/error.h"

namespace tandem::cli {
namespace {

constexpr std::int64_t kBlockRows = 64;

std::size_t index(std::int64_t i) noexcept { return static_cast<std::size_t>(i); }

/// A = L L^T, L in the lower triangle of `a`.
void factorise(std::vector<double>& a, std::int64_t n) {
  for (std::int64_t j = 0; j < n; ++j) {
    double* row_j = a.data() + j * n;
    for (std::int64_t i = j; i < n; ++i) {
      double* row_i = a.data() + i * n;
      double sum = row_i[j];
      for (std::int64_t k = 0; k < j; ++k) sum -= row_i[k] * row_j[k];
      TANDEM_CHECK(i != j || sum > 0, invalid_argument, "matrix is not positive definite at row ", j);
      row_i[j] = i == j ? std::sqrt(sum) : sum / row_j[j];
    }
  }
}

}  // namespace

void solve_spd(std::vector<double> a, std::int64_t n, std::vector<double>& b, std::int64_t columns) {
  factorise(a, n);
  const auto subtract = [&](std::int64_t row, std::int64_t other, double factor) {
    for (std::int64_t c = 0; c < columns; ++c) b[index(row * columns + c)] -= factor * b[index(other * columns + c)];
  };
  const auto divide = [&](std::int64_t row) {
    for (std::int64_t c = 0; c < columns; ++c) b[index(row * columns + c)] /= a[index(row * n + row)];
  };
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t k = 0; k < i; ++k) subtract(i, k, a[index(i * n + k)]);
    divide(i);
  }
  for (std::int64_t i = n - 1; i >= 0; --i) {
    for (std::int64_t k = i + 1; k < n; ++k) subtract(i, k, a[index(k * n + i)]);
    divide(i);
  }
}

double Moments::variance_along(const float* x) const {
  const auto dim = static_cast<std::int64_t>(mean.size());
  double sum = 0;
  for (std::int64_t i = 0; i < dim; ++i) {
    double row = 0;
    for (std::int64_t j = 0; j < dim; ++j) row += covariance[index(i * dim + j)] * x[j];
    sum += row * x[i];
  }
  return std::max(sum, 0.0);
}

MomentSums::MomentSums(std::int64_t dim)
    : dim_(dim), block_(index(dim * (dim + 1)), 0.f), sum_(index(dim), 0.0), products_(index(dim * dim), 0.0) {}

void MomentSums::add(const float* row) {
  float* sums = block_.data() + dim_ * dim_;
  for (std::int64_t i = 0; i < dim_; ++i) {
    const float x = row[i];
    float* products = block_.data() + i * dim_;
    sums[i] += x;
    for (std::int64_t j = 0; j < dim_; ++j) products[j] += x * row[j];
  }
  ++rows_;
  if (++pending_ == kBlockRows) flush();
}

void MomentSums::flush() {
  for (std::size_t i = 0; i < products_.size(); ++i) products_[i] += block_[i];
  for (std::size_t i = 0; i < sum_.size(); ++i) sum_[i] += block_[products_.size() + i];
  std::fill(block_.begin(), block_.end(), 0.f);
  pending_ = 0;
}

Moments MomentSums::moments() {
  flush();
  const auto rows = static_cast<double>(rows_);
  Moments result{sum_, products_};
  for (double& x : result.mean) x /= rows;
  for (std::int64_t i = 0; i < dim_; ++i) {
    for (std::int64_t j = 0; j < dim_; ++j) {
      double& x = result.covariance[index(i * dim_ + j)];
      x = x / rows - result.mean[index(i)] * result.mean[index(j)];
    }
  }
  return result;
}

}  // namespace tandem::cli
