#include "runtime/base/profiler_range.h"

#if defined(TANDEM_HAS_NVTX)
#include <nvtx3/nvToolsExt.h>
#endif

namespace tandem {

#if defined(TANDEM_HAS_NVTX)  // which looks for a profiler when it is first called
ProfilerRange::ProfilerRange(const char* name) noexcept { (void)nvtxRangePushA(name); }
ProfilerRange::~ProfilerRange() { (void)nvtxRangePop(); }
#else
ProfilerRange::ProfilerRange(const char* /*name*/) noexcept {}
ProfilerRange::~ProfilerRange() = default;
#endif

}  // namespace tandem
