#include "cpu/kernels.h"

namespace tandem::cpu {

namespace scalar {
extern const Kernels kernels;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
namespace avx512vbmi {
extern const Kernels kernels;
}
#endif

const Kernels& kernels_for(Isa isa) noexcept {
#if defined(__x86_64__)
  if (isa == Isa::avx512vbmi) return avx512vbmi::kernels;
  if (isa == Isa::avx512) return avx512::kernels;
  if (isa == Isa::avx2) return avx2::kernels;
#endif
  (void)isa;
  return scalar::kernels;
}

}  // namespace tandem::cpu
