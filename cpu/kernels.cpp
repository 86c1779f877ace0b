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
  switch (isa) {
    case Isa::scalar:
      break;
#if defined(__x86_64__)
    case Isa::avx2:
      return avx2::kernels;
    case Isa::avx512:
      return avx512::kernels;
    case Isa::avx512vbmi:
      return avx512vbmi::kernels;
#else
    default:
      break;
#endif
  }
  return scalar::kernels;
}

}  // namespace tandem::cpu
