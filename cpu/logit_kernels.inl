// Element-wise functions of logits and weights; compiled per ISA by isa_kernels.cpp; no include guard.
namespace tandem::cpu::TANDEM_ISA {
namespace {

void inclusion_log_weights(const float* inclusion, int count, float* weights) noexcept {
  for (int r = 0; r < count; r += kLanes) {
    const Vec pi = load(inclusion + r);
    store(weights + r, select_lt(pi, Vec(1.f), Vec(0.f) - log(pi), Vec(0.f)));
  }
}

void softcap(float* scores, std::int64_t count, float cap) noexcept {
  const Vec inverse(1.f / cap);
  for (std::int64_t i = 0; i < count; i += kLanes) store(scores + i, tanh(load(scores + i) * inverse) * Vec(cap));
}

void add_probabilities(const float* scores, float lse, float* sums) noexcept {
  for (int r = 0; r < kBlockRows; r += kLanes) {
    // Rounding may put a score above the sum that it is part of.
    const Vec share = exp_nonpositive(min(load(scores + r) - Vec(lse), Vec(0.f)));
    store(sums + r, load(sums + r) + share);
  }
}

}  // namespace
}  // namespace tandem::cpu::TANDEM_ISA
