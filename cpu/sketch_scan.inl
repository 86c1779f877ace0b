// The sketch index: estimates become proposal weights, and rows are drawn; compiled per ISA; no include guard.
// Weights are 2^x by writing x into the exponent bits of a float (Schraudolph 1999), within 3 %.
namespace tandem::cpu::TANDEM_ISA {
namespace {

constexpr float kBitsPerNat = 8388608.f * 1.44269504088896341f;
constexpr float kOneBits = 127.f * 8388608.f - 366393.f;  // makes the mean error 0
constexpr float kMostBits = 227.f * 8388608.f;

/// From "bits" (kBitsPerNat * x + kOneBits) to e^x; 0 from 2^-127 down.
inline Vec weight_of(Vec bits) { return from_bits_in(min(max(bits, Vec(0.f)), Vec(kMostBits))); }

float weigh(float* values, int count, float temper, float reference) noexcept {
  Vec total(0.f);
  for (int i = 0; i < count; i += kLanes) {
    const Vec weight = weight_of(fma(load(values + i) - Vec(reference), Vec(temper * kBitsPerNat), Vec(kOneBits)));
    store(values + i, weight);
    total = total + weight;
  }
  return sum(total);
}

float expected_rows(const float* shares, int count, float rate, float floor_share) noexcept {
  Vec total(0.f);
  for (int i = 0; i < count; i += kLanes) {
    total = total + min(fma(Vec(rate), load(shares + i), Vec(floor_share)), Vec(1.f));
  }
  return sum(total);
}

/// What a scan keeps of the block in hand; (group_size, 64) and (64).
struct ScanBlock {
  alignas(64) std::uint16_t sums[kMaxGroupSize * kSketchBlockRows];
  alignas(64) float weights[kMaxGroupSize * kSketchBlockRows];
  alignas(64) float floors[kSketchBlockRows];
  alignas(64) float shares[kSketchBlockRows];
  alignas(64) float uniforms[kSketchBlockRows];
  alignas(64) float uncertain[kSketchBlockRows];  // 1, but 0 for certain and hidden rows
  bool hidden[kSketchBlockRows];
};

/// The bits of the weights of head h (see weight_of) = factor * (slope * sum + intercept) + shift.
struct BitsOfHead {
  float slope, intercept, shift;
  float temper, tempered_shift, scale;
};

/// Untempered weights and shares, straight from the sums. `kTempered` is false when no head is tempered.
template <bool kTempered>
inline void weigh_block(const BitsOfHead* heads, int group_size, const std::byte* factors, ScanBlock& block) {
  constexpr int kVectors = kSketchBlockRows / kLanes;
  Vec factor[kVectors];
  Vec share[kVectors];
  for (int i = 0; i < kVectors; ++i) {
    factor[i] = load_f16(factors + i * kLanes * 2);
    share[i] = Vec(0.f);
  }
  for (int h = 0; h < group_size; ++h) {
    const Vec slope(heads[h].slope), intercept(heads[h].intercept), shift(heads[h].shift), scale(heads[h].scale);
    const std::uint16_t* sums = block.sums + h * kSketchBlockRows;
    float* weights = block.weights + h * kSketchBlockRows;
    for (int i = 0; i < kVectors; ++i) {
      const Vec bits = fma(factor[i], fma(slope, load_u16(sums + i * kLanes), intercept), shift);
      const Vec weight = weight_of(bits);
      store(weights + i * kLanes, weight);
      if constexpr (kTempered) {
        const Vec tempered = weight_of(fma(bits, Vec(heads[h].temper), Vec(heads[h].tempered_shift)));
        share[i] = fma(scale, tempered, share[i]);
      } else {
        share[i] = fma(scale, weight, share[i]);
      }
    }
  }
  for (int i = 0; i < kVectors; ++i) store(block.shares + i * kLanes, share[i]);
}

/// The same where a cap or a bias stands between estimate and logit.
inline void weigh_block_slowly(const SketchQuery& query, const SketchProposal& proposal, const std::byte* factors,
                               std::int64_t first_row, ScanBlock& block) {
  for (int t = 0; t < kSketchBlockRows; t += kLanes) store(block.shares + t, Vec(0.f));
  for (int h = 0; h < query.group_size; ++h) {
    float* values = block.weights + h * kSketchBlockRows;
    scale_sums(block.sums + h * kSketchBlockRows, factors, query.slopes[h], query.intercepts[h], values);
    logits(proposal, h, first_row, values, kSketchBlockRows);
    for (int t = 0; t < kSketchBlockRows; t += kLanes) {
      const Vec x = (load(values + t) - Vec(proposal.references[h])) * Vec(kBitsPerNat);
      store(values + t, weight_of(x + Vec(kOneBits)));
      const Vec tempered = weight_of(fma(x, Vec(proposal.tempers[h]), Vec(kOneBits)));
      store(block.shares + t, fma(Vec(proposal.scales[h]), tempered, load(block.shares + t)));
    }
  }
}

/// Takes hidden rows out of weights, shares and the draw.
inline void hide_rows(const std::byte* factors, std::int64_t begin, std::int64_t end, int group_size,
                      ScanBlock& block) {
  find_hidden(factors, begin, end, block.hidden);
  for (int t = 0; t < kSketchBlockRows; ++t) {
    if (!block.hidden[t]) continue;
    block.floors[t] = 0.f;
    block.shares[t] = 0.f;
    for (int h = 0; h < group_size; ++h) block.weights[h * kSketchBlockRows + t] = 0.f;
  }
}

// Inlined by force, here and below: GCC takes a function that only prefetches for one without effect, and drops its
// calls.
[[gnu::always_inline]] inline void ask_for(const std::byte* begin, std::int64_t bytes) {
  for (std::int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(begin + i);
}

/// Appends the rows that the draw hits; marks the uncertain ones.
inline void draw_rows(const SketchDraw& draw, int group_size, std::int64_t first_row, ScanBlock& block,
                      SketchCandidates& found) {
  const SketchBits random = sketch_bits(draw.key, first_row / kSketchBlockRows);
  const Words factor = words(random.factor);
  const Words offset = words(random.offset);
  std::uint64_t hits = 0;
  for (int t = 0; t < kSketchBlockRows; t += kLanes) {
    const Vec probability = fma(load(block.shares + t), Vec(draw.rate), load(block.floors + t));
    const Words bits = add(multiply(load_words(kSketchPoints.data() + t), factor), offset);  // sketch_uniform()
    const Vec uniform = draw.certain_only ? Vec(1.f - 6e-8f) : fma(upper_24_bits(bits), Vec(0x1p-24f), Vec(0x1p-25f));
    store(block.uniforms + t, uniform);
    store(block.uncertain + t, select_lt(probability, Vec(1.f), Vec(1.f), Vec(0.f)));
    hits |= static_cast<std::uint64_t>(positive_mask(probability - uniform)) << t;
  }
  for (; hits != 0; hits &= hits - 1) {  // one unpredictable branch a block, not one per vector
    const int t = __builtin_ctzll(hits);
    const std::int64_t i = found.count++;
    found.rows[i] = static_cast<std::uint32_t>(first_row + t);
    found.shares[i] = block.shares[t];
    found.uniforms[i] = block.uniforms[t];
    for (int h = 0; h < group_size; ++h) found.weights[i * group_size + h] = block.weights[h * kSketchBlockRows + t];
  }
}

/// The heads' coefficients, for blocks without cap and bias; true when a head is tempered.
inline bool prepare_heads(const SketchQuery& query, const SketchProposal& proposal, BitsOfHead* heads) {
  bool tempered = false;
  for (int h = 0; h < query.group_size; ++h) {
    const float unit = proposal.shrinks[h] * kBitsPerNat;
    heads[h] = {query.slopes[h] * unit,
                query.intercepts[h] * unit,
                (proposal.offsets[h] - proposal.references[h]) * kBitsPerNat + kOneBits,
                proposal.tempers[h],
                kOneBits * (1.f - proposal.tempers[h]),
                proposal.scales[h]};
    tempered = tempered || proposal.tempers[h] != 1.f;
  }
  return tempered;
}

/// Asks memory for the block that comes some blocks after block b of `run`.
[[gnu::always_inline]] inline void ask_ahead(const SketchRun& run, std::int64_t b, std::int64_t end_block,
                                             std::ptrdiff_t block_bytes) {
  constexpr std::int64_t kBlocksAhead = 8;  // what memory takes under load, and the walk to a page that no TLB has
  const std::int64_t ahead = b + kBlocksAhead;
  if (ahead < end_block) {
    ask_for(run.blocks + ahead * block_bytes, block_bytes);
  } else if (run.next != nullptr) {
    ask_for(run.next + (ahead - end_block) * block_bytes, block_bytes);
  }
}

/// Sums over the uncertain rows of all blocks.
struct UncertainSums {
  explicit UncertainSums(int num_heads) : group_size(num_heads) {
    for (int h = 0; h < group_size; ++h) weights[h] = Vec(0.f);
  }
  void add(const ScanBlock& block) {
    for (int t = 0; t < kSketchBlockRows; t += kLanes) {
      rows = rows + load(block.uncertain + t);
      share = fma(load(block.uncertain + t), load(block.shares + t), share);
    }
    for (int h = 0; h < group_size; ++h) {
      for (int t = 0; t < kSketchBlockRows; t += kLanes) {
        weights[h] = fma(load(block.uncertain + t), load(block.weights + h * kSketchBlockRows + t), weights[h]);
      }
    }
  }
  void write(SketchSums& sums) const {
    for (int h = 0; h < group_size; ++h) sums.weights[h] = sum(weights[h]);
    sums.share = sum(share);
    sums.rows = static_cast<std::int64_t>(sum(rows));
  }

  int group_size;
  Vec weights[kMaxGroupSize];
  Vec share = Vec(0.f);
  Vec rows = Vec(0.f);
};

void scan(const SketchQuery& query, const SketchProposal& proposal, const SketchDraw& draw, const SketchRun& run,
          SketchCandidates& found, SketchSums& sums) noexcept {
  ScanBlock block;
  BitsOfHead heads[kMaxGroupSize];
  const bool plain = proposal.softcap == 0.f && proposal.alibi == nullptr;
  const bool tempered = prepare_heads(query, proposal, heads);
  UncertainSums total(query.group_size);
  const std::ptrdiff_t block_bytes = (static_cast<std::ptrdiff_t>(query.code_bytes) + 2) * 64;
  bool partial = true;  // floors are to be set
  const std::int64_t end_block = (run.end - run.first_row + kSketchBlockRows - 1) / kSketchBlockRows;
  for (std::int64_t b = (run.begin - run.first_row) / kSketchBlockRows; b < end_block; ++b) {
    const std::byte* codes = run.blocks + b * block_bytes;
    const std::byte* factors = codes + block_bytes - kSketchBlockRows * 2;
    const std::int64_t row = run.first_row + b * kSketchBlockRows;
    ask_ahead(run, b, end_block, block_bytes);
    sum_all_entries(query, codes, block.sums);
    if (!plain) {
      weigh_block_slowly(query, proposal, factors, row, block);
    } else if (tempered) {
      weigh_block<true>(heads, query.group_size, factors, block);
    } else {
      weigh_block<false>(heads, query.group_size, factors, block);
    }
    if (partial) {  // the last block's: hide_rows() changed them
      for (int t = 0; t < kSketchBlockRows; t += kLanes) store(block.floors + t, Vec(draw.floor));
    }
    partial = row < run.begin || row + kSketchBlockRows > run.end || has_unusable_rows(factors);
    if (partial) hide_rows(factors, run.begin - row, run.end - row, query.group_size, block);
    draw_rows(draw, query.group_size, row, block, found);
    if (partial) {
      for (int t = 0; t < kSketchBlockRows; ++t) block.uncertain[t] = block.hidden[t] ? 0.f : block.uncertain[t];
    }
    total.add(block);
  }
  total.write(sums);
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
