#pragma once

#include <cstdint>
#include <memory>

#include "cpu/aligned_vector.h"

namespace tandem::cpu {

/// The directions whose signs QJL stores: S (padded(head_dim), num_columns), row-major, padding zero.
///
/// A pure function of its arguments. Gaussian: independent standard normal entries. Orthogonal: blocks of head_dim
/// columns, each block the Gram-Schmidt basis of Gaussian columns times sqrt(head_dim), the last block perhaps a part
/// of one; blocks are independent of each other. The first n columns do not depend on num_columns. Projections that are
/// in use are shared: equal arguments give the same memory. Thread-safe.
/// Source: Zandieh et al., arXiv:2406.03482, section 3 and, for the orthogonal blocks, section 4.
std::shared_ptr<const AlignedVector<float>> qjl_projection(std::uint64_t seed, std::int32_t head_dim,
                                                           std::int32_t num_columns, bool orthogonal);

/// E[sqrt(pi / 2) sign(<S_j, k>) <S_j, q>] = bias * <q, k> / |k| for a column S_j of qjl_projection(): 1 for Gaussian
/// columns; sqrt(pi / 2) sqrt(d) Gamma(d / 2) / (sqrt(pi) Gamma((d + 1) / 2)) for those of length sqrt(d), 1.00196 at
/// d = 128.
double qjl_bias(std::int32_t head_dim, bool orthogonal) noexcept;

}  // namespace tandem::cpu
