#pragma once

#include <cstdint>
#include <vector>

namespace tandem::cli {

/// Solves A X = B for a symmetric positive definite A (n, n), row-major, by Cholesky; B (n, columns) is overwritten
/// with X. Throws Error(invalid_argument) when A is not positive definite. No threads: the same bits everywhere.
void solve_spd(std::vector<double> a, std::int64_t n, std::vector<double>& b, std::int64_t columns);

/// Mean (dim) and covariance (dim, dim) of rows, row-major.
struct Moments {
  std::vector<double> mean, covariance;

  /// x^T covariance x: the variance of <x, row>.
  [[nodiscard]] double variance_along(const float* x) const;
};

/// Adds rows one by one; sums of up to 64 rows are taken in fp32, those of blocks in double.
class MomentSums {
 public:
  explicit MomentSums(std::int64_t dim);
  void add(const float* row);
  /// At least one row was added.
  [[nodiscard]] Moments moments();

 private:
  void flush();

  std::int64_t dim_, rows_ = 0, pending_ = 0;
  std::vector<float> block_;
  std::vector<double> sum_, products_;
};

}  // namespace tandem::cli
