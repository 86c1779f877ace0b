// The sketch index: keys become codes; compiled per ISA; no include guard.
namespace tandem::cpu::TANDEM_ISA {
namespace {

template <Element element>
void centre(const std::byte* const* rows, int count, int padded_dim, const float* mean, float* out) noexcept {
  for (int r = 0; r < count; ++r, out += padded_dim) {
    if constexpr (is_scaled(element)) {  // the scale follows K
      float scale;
      std::memcpy(&scale, rows[r] + bytes_of(element, padded_dim), sizeof(scale));
      for (int i = 0; i < padded_dim; i += kLanes)
        store(out + i, load_elements<element>(rows[r], i) * Vec(scale) - load(mean + i));
    } else {
      for (int i = 0; i < padded_dim; i += kLanes) store(out + i, load_elements<element>(rows[r], i) - load(mean + i));
    }
  }
}

/// kVectors vectors against kTile vectors of planes, all sums in registers.
template <int kVectors, int kTile>
inline void project_tile(const float* vectors, int padded_dim, const float* planes, int num_planes, float* out) {
  Vec sums[kVectors][kTile];
  for (int v = 0; v < kVectors; ++v) {
    for (int t = 0; t < kTile; ++t) sums[v][t] = Vec(0.f);
  }
  for (int i = 0; i < padded_dim; ++i, planes += num_planes) {
    Vec plane[kTile];
    for (int t = 0; t < kTile; ++t) plane[t] = load(planes + t * kLanes);
    for (int v = 0; v < kVectors; ++v) {
      const Vec x(vectors[static_cast<std::ptrdiff_t>(v) * padded_dim + i]);
      for (int t = 0; t < kTile; ++t) sums[v][t] = fma(x, plane[t], sums[v][t]);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    for (int t = 0; t < kTile; ++t) store(out + static_cast<std::ptrdiff_t>(v) * num_planes + t * kLanes, sums[v][t]);
  }
}

template <int kTile>
void project_planes(const float* vectors, std::int64_t num_vectors, int padded_dim, const float* planes, int num_planes,
                    float* out) {
  std::int64_t v = 0;
  for (; v + 4 <= num_vectors; v += 4) {
    project_tile<4, kTile>(vectors + v * padded_dim, padded_dim, planes, num_planes, out + v * num_planes);
  }
  for (; v < num_vectors; ++v) {
    project_tile<1, kTile>(vectors + v * padded_dim, padded_dim, planes, num_planes, out + v * num_planes);
  }
}

void project(const float* vectors, std::int64_t num_vectors, int padded_dim, const float* planes, int num_planes,
             float* out) noexcept {
  constexpr int kTile = kLanes == 16 ? 4 : 2;
  int plane = 0;  // planes outside: a tile of them stays in the first-level cache while all vectors pass by
  for (; plane + kTile * kLanes <= num_planes; plane += kTile * kLanes) {
    project_planes<kTile>(vectors, num_vectors, padded_dim, planes + plane, num_planes, out + plane);
  }
  for (; plane < num_planes; plane += kLanes) {
    project_planes<1>(vectors, num_vectors, padded_dim, planes + plane, num_planes, out + plane);
  }
}

constexpr int kMaxCodeBits = 2 * kMaxHeadDim;

/// Sums of every 16th term, side by side: what is added to what, and so the code, does not depend on kLanes.
struct StridedSums {
  static constexpr int kVectors = kDimPadding / kLanes;
  Vec sums[kVectors];
  StridedSums() {
    for (Vec& x : sums) x = Vec(0.f);
  }
  [[nodiscard]] float total() const {
#if defined(__AVX512F__)
    return sum(sums[0]);
#elif defined(__AVX2__)
    return sum(sums[0] + sums[1]);
#else
    Vec x[8];
    for (int i = 0; i < 8; ++i) x[i] = sums[i] + sums[i + 8];
    for (int i = 0; i < 4; ++i) x[i] = x[i] + x[i + 4];
    return ((x[0] + x[1]) + (x[2] + x[3])).value;
#endif
  }
};

/// Writes levels 0 .. 2^bits - 1 of each coordinate; returns the factor of the estimate, 0 for a zero key.
inline float quantise(const SketchFormat& format, const float* z, std::uint32_t* levels) {
  StridedSums squares, products;
  for (int i = 0; i < format.padded_dims; i += kDimPadding) {
    for (int v = 0; v < StridedSums::kVectors; ++v) {
      const Vec x = load(z + i + v * kLanes);
      squares.sums[v] = fma(x, x, squares.sums[v]);
    }
  }
  const float square = squares.total();
  const Vec inverse_norm(square > 0.f ? 1.f / ::sqrtf(square) : 0.f);
  for (int i = 0; i < format.padded_dims; i += kDimPadding) {
    for (int v = 0; v < StridedSums::kVectors; ++v) {
      const int d = i + v * kLanes;
      const Vec x = load(z + d);
      const Vec half_levels = load(format.levels.data() + d);
      const Vec level = floor(x * inverse_norm * load(format.inverse_steps.data() + d));
      const Vec clamped = min(max(level, Vec(0.f) - half_levels), half_levels - Vec(1.f));
      products.sums[v] = fma(x, load(format.steps.data() + d) * (clamped + Vec(0.5f)), products.sums[v]);
      store_integers(levels + d, max(clamped + half_levels, Vec(0.f)));  // padding has half_levels 0
    }
  }
  const float product = products.total();
  return product > 0.f ? square / product : 0.f;
}

/// The bits of a code, in the order that SketchFormat states.
inline void pack(const SketchFormat& format, const std::uint32_t* levels, std::uint8_t* code) {
  std::uint64_t pending = 0;
  int filled = 0;
  for (std::size_t g = 0; g < format.groups.size(); ++g) {
    const int dims = format.groups[g].dims;
    for (int plane = format.groups[g].bits - 1; plane >= 0; --plane) {
      for (int i = 0; i < dims; i += kLanes) {
        const int n = dims - i < kLanes ? dims - i : kLanes;
        const std::uint64_t bits = bit_of_each(levels + i, plane) & ((1u << n) - 1u);
        pending |= bits << filled;
        filled += n;
        if (filled < 32) continue;
        const auto word = static_cast<std::uint32_t>(pending);
        std::memcpy(code, &word, sizeof(word));
        code += sizeof(word);
        pending >>= 32;
        filled -= 32;
      }
    }
    levels += dims;
  }
}

void encode(const SketchFormat& format, const float* z, int count, std::byte* blocks, std::int64_t first_row) noexcept {
  alignas(64) std::uint32_t levels[kMaxHeadDim + 32 + kLanes] = {};
  std::uint8_t code[kMaxCodeBits / 8 + 32];
  const float inverse_scale = 1.f / format.factor_scale;
  for (int r = 0; r < count; ++r, z += format.padded_dims) {
    const std::int64_t row = first_row + r;
    std::byte* block = blocks + row / kSketchBlockRows * format.block_bytes();
    const auto t = static_cast<int>(row % kSketchBlockRows);
    const float factor = quantise(format, z, levels) * inverse_scale;
    pack(format, levels, code);
    for (int j = 0; j < format.code_bytes; ++j) block[j * 64 + SketchFormat::column_of(t)] = std::byte{code[j]};
    const std::uint16_t half = f32_to_f16(factor < 65504.f ? factor : 65504.f);
    std::memcpy(block + static_cast<std::ptrdiff_t>(format.code_bytes) * 64 + t * 2, &half, sizeof(half));
  }
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
