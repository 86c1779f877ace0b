#include "lsh/sketch_map.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>

#include "lsh/query_tables.h"
#include "runtime/base/random.h"
#include "runtime/base/shape.h"

namespace tandem::lsh {
namespace {

constexpr std::int64_t kSampledKeys = 4096;
constexpr double kKeyRidge = 0.02;   // of the mean variance: keeps flat directions of the keys from blowing up
constexpr double kQueryRidge = 0.5;  // few queries are known, and later ones differ

std::size_t product(std::int64_t a, std::int64_t b) noexcept { return static_cast<std::size_t>(a * b); }

/// Keys spread evenly over the store, minus their mean; by rows and by columns.
struct KeySample {
  std::int64_t count = 0;  // a multiple of kDimPadding: the columns are vectors too
  int padded_k = 0;
  cpu::AlignedVector<float> mean;
  cpu::AlignedVector<float> keys;    // (count, padded_k)
  cpu::AlignedVector<float> by_dim;  // (padded_k, count)
  std::vector<float> mean_value;     // (dim_v)
};

std::vector<float> mean_value(const cpu::RowLayout& layout, const std::vector<const std::byte*>& rows) {
  std::vector<double> sums(static_cast<std::size_t>(layout.dim_v), 0.0);
  std::vector<float> value(static_cast<std::size_t>(layout.padded_v));
  for (const std::byte* row : rows) {
    cpu::load_value(layout, row, value.data());
    for (std::size_t d = 0; d < sums.size(); ++d) sums[d] += value[d];
  }
  std::vector<float> mean;
  for (const double sum : sums) mean.push_back(static_cast<float>(sum / static_cast<double>(rows.size())));
  return mean;
}

KeySample sample_keys(const cpu::Kernels& kernels, const cpu::KvStore& store, std::int64_t rows) {
  const cpu::RowLayout& layout = store.layout();
  KeySample sample;
  // Rows may repeat when there are fewer than kDimPadding of them: a mean over repeats is still a mean over rows.
  sample.count = (std::min(rows, kSampledKeys) + cpu::kDimPadding - 1) / cpu::kDimPadding * cpu::kDimPadding;
  sample.padded_k = layout.padded_k;
  sample.mean.assign(static_cast<std::size_t>(layout.padded_k), 0.f);
  sample.keys.resize(product(sample.count, layout.padded_k));
  sample.by_dim.resize(sample.keys.size());
  std::vector<const std::byte*> pointers;
  for (std::int64_t i = 0; i < sample.count; ++i) pointers.push_back(store.row(i * rows / sample.count));
  const auto centre = kernels.sketch.centre[layout.dtype];
  const auto count = static_cast<int>(sample.count);
  centre(pointers.data(), count, layout.padded_k, sample.mean.data(), sample.keys.data());
  for (int d = 0; d < layout.padded_k; ++d) {
    double sum = 0;
    for (std::int64_t i = 0; i < sample.count; ++i)
      sum += sample.keys[product(i, layout.padded_k) + static_cast<std::size_t>(d)];
    sample.mean[static_cast<std::size_t>(d)] = static_cast<float>(sum / static_cast<double>(sample.count));
  }
  centre(pointers.data(), count, layout.padded_k, sample.mean.data(), sample.keys.data());
  for (std::int64_t i = 0; i < sample.count; ++i) {
    for (int d = 0; d < layout.padded_k; ++d)
      sample.by_dim[product(d, sample.count) + static_cast<std::size_t>(i)] =
          sample.keys[product(i, layout.padded_k) + static_cast<std::size_t>(d)];
  }
  sample.mean_value = mean_value(layout, pointers);
  return sample;
}

/// mean of x x^T over the rows of `vectors` (count, padded), in the first `dim` dimensions.
Eigen::MatrixXd second_moment(const cpu::Kernels& kernels, const float* by_dim, const float* vectors,
                              std::int64_t count, int padded, int dim) {
  cpu::AlignedVector<float> products(product(padded, padded));
  kernels.sketch.project(by_dim, padded, static_cast<int>(count), vectors, padded, products.data());
  Eigen::MatrixXd moment(dim, dim);
  for (int i = 0; i < dim; ++i) {
    for (int j = 0; j < dim; ++j) {
      const auto upper =
          static_cast<double>(products[product(std::min(i, j), padded) + static_cast<std::size_t>(std::max(i, j))]);
      moment(i, j) = upper / static_cast<double>(count);
    }
  }
  return moment;
}

Eigen::MatrixXd query_moment(const std::vector<float>& queries, int padded, int dim) {
  const auto count = static_cast<std::int64_t>(queries.size()) / padded;
  Eigen::MatrixXd moment = Eigen::MatrixXd::Identity(dim, dim);
  if (count < kFewestQueries) return moment;
  moment.setZero();
  for (std::int64_t v = 0; v < count; ++v) {
    const Eigen::Map<const Eigen::VectorXf> q(queries.data() + v * padded, dim);
    moment.selfadjointView<Eigen::Upper>().rankUpdate(q.cast<double>());
  }
  moment /= static_cast<double>(count);
  return moment.selfadjointView<Eigen::Upper>();
}

void add_ridge(Eigen::MatrixXd& moment, double share) {
  const double mean = moment.trace() / static_cast<double>(moment.rows());
  moment.diagonal().array() += mean > 0 ? share * mean : 1.0;
}

/// Rows of key and query maps, most important first: key * S_k key^T = query S_q query^T = a diagonal.
struct BalancedMaps {
  Eigen::MatrixXd key, query;
};

/// With S_k = L L^T and L^T S_q L = W D^2 W^T: key = D^1/2 W^T L^-1 and query = D^-1/2 W^T L^T.
BalancedMaps balance(const Eigen::MatrixXd& key_moment, const Eigen::MatrixXd& query_moment) {
  const Eigen::LLT<Eigen::MatrixXd> cholesky(key_moment);
  const Eigen::MatrixXd lower = cholesky.matrixL();
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(lower.transpose() * query_moment * lower);
  const Eigen::MatrixXd axes = solver.eigenvectors().rowwise().reverse();
  const double least = std::max(solver.eigenvalues().maxCoeff() * 1e-12, 1e-300);
  const Eigen::VectorXd spread = solver.eigenvalues().reverse().cwiseMax(least).array().pow(0.25);
  BalancedMaps maps;
  maps.key = spread.asDiagonal() * axes.transpose() *
             cholesky.matrixL().solve(Eigen::MatrixXd::Identity(key_moment.rows(), key_moment.rows()));
  maps.query = spread.cwiseInverse().asDiagonal() * axes.transpose() * lower.transpose();
  return maps;
}

/// Rotates `dims` rows among each other: random signs, then Hadamard transforms of the largest power of two that
/// divides dims, each over rows at equal distances, so that every one has important and unimportant rows.
void rotate(Eigen::Ref<Eigen::MatrixXd> rows, CounterRandom random) {
  const Eigen::Index dims = rows.rows();
  const Eigen::Index size = dims & -dims;
  const Eigen::Index stride = dims / size;
  for (Eigen::Index i = 0; i < dims; ++i) {
    if (random.next() >> 63 != 0) rows.row(i) *= -1;
  }
  for (Eigen::Index first = 0; first < stride; ++first) {
    for (Eigen::Index half = 1; half < size; half *= 2) {
      for (Eigen::Index i = 0; i < size; ++i) {
        if ((i & half) != 0) continue;
        const Eigen::Index a = first + i * stride;
        const Eigen::Index b = first + (i + half) * stride;
        const Eigen::RowVectorXd sum = (rows.row(a) + rows.row(b)) * std::sqrt(0.5);
        rows.row(b) = (rows.row(a) - rows.row(b)) * std::sqrt(0.5);
        rows.row(a) = sum;
      }
    }
  }
}

/// The first `num_dims` rows, rotated within each group, as columns of planes.
cpu::AlignedVector<float> planes_of(const Eigen::MatrixXd& map, const cpu::BitAllocation& groups, int num_dims,
                                    int padded_dims, int padded_k, std::uint64_t seed) {
  Eigen::MatrixXd rows = Eigen::MatrixXd::Zero(num_dims, map.cols());
  const Eigen::Index used = std::min<Eigen::Index>(num_dims, map.rows());
  rows.topRows(used) = map.topRows(used);
  Eigen::Index first = 0;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    rotate(rows.middleRows(first, groups[g].dims), CounterRandom(seed, g));
    first += groups[g].dims;
  }
  cpu::AlignedVector<float> planes(product(padded_k, padded_dims), 0.f);
  for (Eigen::Index k = 0; k < rows.cols(); ++k) {
    for (Eigen::Index i = 0; i < rows.rows(); ++i)
      planes[product(k, padded_dims) + static_cast<std::size_t>(i)] = static_cast<float>(rows(i, k));
  }
  return planes;
}

/// rms of a coordinate of each group over the rms of all, and the rms norm.
struct Spread {
  std::vector<float> group_rms;
  float norm = 1.f;
};

Spread spread_of(const cpu::AlignedVector<float>& z, std::int64_t count, int padded_dims,
                 const cpu::BitAllocation& groups) {
  Spread spread;
  double total = 0;
  int num_dims = 0;
  std::vector<double> squares;
  for (const cpu::BitGroup& group : groups) {
    double square = 0;
    for (std::int64_t r = 0; r < count; ++r) {
      const float* row = z.data() + r * padded_dims + num_dims;
      for (int i = 0; i < group.dims; ++i) square += static_cast<double>(row[i]) * row[i];
    }
    squares.push_back(square / group.dims);
    total += square;
    num_dims += group.dims;
  }
  const double mean = total / num_dims;
  for (const double square : squares)
    spread.group_rms.push_back(mean > 0 ? static_cast<float>(std::sqrt(square / mean)) : 1.f);
  const double norm = std::sqrt(total / static_cast<double>(count));
  if (norm > 0) spread.norm = static_cast<float>(norm);
  return spread;
}

/// Queries that no map is fitted to, as many as the kernels take at once, and their logits over the sampled keys.
struct TestQueries {
  int count = 0;
  cpu::AlignedVector<float> vectors;  // (count, padded_k)
  cpu::AlignedVector<float> logits;   // (count, sample.count)
};

TestQueries test_queries(const cpu::Kernels& kernels, const KeySample& sample, const std::vector<float>& queries) {
  const auto known = static_cast<std::int64_t>(queries.size()) / sample.padded_k;
  TestQueries tests;
  tests.count = static_cast<int>(std::min<std::int64_t>(kMaxGroupSize, known));
  tests.vectors.assign(queries.begin(), queries.begin() + std::ptrdiff_t{tests.count} * sample.padded_k);
  tests.logits.resize(product(tests.count, sample.count));
  kernels.sketch.project(tests.vectors.data(), tests.count, sample.padded_k, sample.by_dim.data(),
                         static_cast<int>(sample.count), tests.logits.data());
  return tests;
}

/// Exact logits of one query over their estimates.
struct Regression {
  void add(double exact, double estimate) noexcept {
    ++n;
    s += exact;
    e += estimate;
    ss += exact * exact;
    ee += estimate * estimate;
    se += exact * estimate;
  }
  [[nodiscard]] double exact_variance() const noexcept { return ss / n - s * s / n / n; }
  [[nodiscard]] double estimate_variance() const noexcept { return ee / n - e * e / n / n; }
  [[nodiscard]] double covariance() const noexcept { return se / n - s * e / n / n; }
  /// Variance of exact logits about a line through the estimates.
  [[nodiscard]] double residual() const noexcept {
    const double explained = estimate_variance() > 0 ? covariance() * covariance() / estimate_variance() : 0.0;
    return std::max(0.0, exact_variance() - explained);
  }
  /// Variance of exact logits minus estimates.
  [[nodiscard]] double error() const noexcept {
    return std::max(0.0, exact_variance() + estimate_variance() - 2 * covariance());
  }

  double n = 0, s = 0, e = 0, ss = 0, ee = 0, se = 0;
};

/// What coding the sampled keys makes of the test queries' logits.
struct CodedLogits {
  std::vector<Regression> regressions;  // (tests.count)
  double factor_squares = 0;            // summed over the keys
};

/// With the keys as `map` codes them from z (sample.count, padded_dims), and the test queries in `tables`.
CodedLogits coded_logits(const cpu::Kernels& kernels, const KeySample& sample, const cpu::AlignedVector<float>& z,
                         const TestQueries& tests, const SketchMap& map, const QueryTables& tables) {
  const cpu::SketchFormat& format = map.format;
  const std::int64_t blocks = (sample.count + cpu::kSketchBlockRows - 1) / cpu::kSketchBlockRows;
  cpu::AlignedVector<std::byte> codes(product(blocks, format.block_bytes()), std::byte{0});
  kernels.sketch.encode(format, z.data(), static_cast<int>(sample.count), codes.data(), 0);
  cpu::AlignedVector<float> estimates(product(tests.count, cpu::kSketchBlockRows));
  CodedLogits result;
  result.regressions.resize(static_cast<std::size_t>(tests.count));
  for (std::int64_t b = 0; b < blocks; ++b) {
    result.factor_squares += static_cast<double>(kernels.sketch.estimates(
        tables.view(), codes.data() + b * format.block_bytes(), estimates.data(), cpu::kSketchBlockRows));
    const std::int64_t first = b * cpu::kSketchBlockRows;
    const std::int64_t rows = std::min<std::int64_t>(cpu::kSketchBlockRows, sample.count - first);
    for (std::int64_t v = 0; v < tests.count; ++v) {
      Regression& regression = result.regressions[static_cast<std::size_t>(v)];
      const float* exact = tests.logits.data() + v * sample.count + first;
      const float* estimated = estimates.data() + v * cpu::kSketchBlockRows;
      for (std::int64_t r = 0; r < rows; ++r) {
        regression.add(static_cast<double>(exact[r]), static_cast<double>(estimated[r]));
      }
    }
  }
  return result;
}

/// Sets sigma, slope and noise of `map` from how its estimates of the test queries' logits differ from the exact ones.
void measure(const cpu::Kernels& kernels, const KeySample& sample, const cpu::AlignedVector<float>& z,
             const TestQueries& tests, SketchMap& map) {
  if (tests.count == 0) return;
  QueryTables tables;
  tables.prepare(kernels.sketch, map, tests.vectors.data(), tests.count, sample.padded_k, map.format.factor_scale);
  const CodedLogits coded = coded_logits(kernels, sample, z, tests, map, tables);
  double query_squares = 0;
  for (int v = 0; v < tests.count; ++v) query_squares += static_cast<double>(tables.square(v));
  double residual = 0, error = 0, covariance = 0, estimate_variance = 0;
  for (const Regression& regression : coded.regressions) {
    residual += regression.residual();
    error += regression.error();
    covariance += regression.covariance();
    estimate_variance += regression.estimate_variance();
  }
  const auto count = static_cast<double>(tests.count);
  map.sigma = std::sqrt(residual / count);
  if (estimate_variance > 0) map.slope = static_cast<float>(covariance / estimate_variance);
  const double scale = query_squares / count * coded.factor_squares / static_cast<double>(sample.count);
  map.noise = scale > 0 ? static_cast<float>(error / count / scale) : 0.f;
}

}  // namespace

std::int64_t SketchMap::bytes() const noexcept {
  return static_cast<std::int64_t>(mean.size() + key_planes.size() + query_planes.size() + mean_value.size() +
                                   3 * format.steps.size()) *
         4;
}

SketchMap calibrate(const cpu::Kernels& kernels, const cpu::KvStore& store, std::int64_t rows, int bits_per_dim,
                    const CalibrationQueries& queries, std::uint64_t seed) {
  const KeySample sample = sample_keys(kernels, store, rows);
  const int padded_k = sample.padded_k;
  const int dim = store.layout().dim_k;
  Eigen::MatrixXd keys = second_moment(kernels, sample.by_dim.data(), sample.keys.data(), sample.count, padded_k, dim);
  Eigen::MatrixXd fit = query_moment(queries.fit, padded_k, dim);
  add_ridge(keys, kKeyRidge);
  add_ridge(fit, kQueryRidge);
  const BalancedMaps maps = balance(keys, fit);

  const TestQueries tests = test_queries(kernels, sample, queries.test);
  SketchMap best;
  for (const cpu::BitAllocation& allocation : cpu::sketch_menu(dim, bits_per_dim)) {
    SketchMap map;
    const cpu::SketchFormat shape(allocation, std::vector<float>(allocation.size(), 1.f), 1.f);
    map.key_planes = planes_of(maps.key, allocation, shape.num_dims, shape.padded_dims, padded_k, seed);
    map.query_planes = planes_of(maps.query, allocation, shape.num_dims, shape.padded_dims, padded_k, seed);
    cpu::AlignedVector<float> z(product(sample.count, shape.padded_dims));
    kernels.sketch.project(sample.keys.data(), sample.count, padded_k, map.key_planes.data(), shape.padded_dims,
                           z.data());
    const Spread spread = spread_of(z, sample.count, shape.padded_dims, allocation);
    map.format = cpu::SketchFormat(allocation, spread.group_rms, spread.norm);
    measure(kernels, sample, z, tests, map);
    if (best.format.num_dims == 0 || map.sigma < best.sigma) best = std::move(map);
  }
  best.mean = sample.mean;
  best.mean_value = sample.mean_value;
  best.rows = rows;
  return best;
}

}  // namespace tandem::lsh
