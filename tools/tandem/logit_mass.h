#pragma once

#include <cstdint>
#include <vector>

namespace tandem::cli {

/// Log-sum-exp of several queries over many keys, block by block, fp32 logits: for making data, not for judging it.
/// No vector reduction is involved, so the bits are those of any machine.
class LogitMass {
 public:
  /// `queries` (count, dim) is read during add().
  LogitMass(const float* queries, std::int64_t count, std::int64_t dim, float scale);

  /// Keys (rows, dim).
  void add(const float* keys, std::int64_t rows);
  /// Natural log; -inf before the first key.
  [[nodiscard]] double lse(std::int64_t query) const;

 private:
  static constexpr std::int64_t kTile = 32;  // keys whose logits fit in the vector registers
  void add_tile(std::int64_t rows);

  const float* queries_;
  std::int64_t count_, dim_;
  float scale_;
  std::vector<float> tile_;  // (dim, kTile): transposed keys
  std::vector<double> max_, sum_;
};

}  // namespace tandem::cli
