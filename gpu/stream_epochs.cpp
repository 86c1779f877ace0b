#include "gpu/stream_epochs.h"

#include "runtime/base/error.h"

namespace tandem::gpu {

void fail_overdue(const std::string& device, Stream stream, const StreamEpochs& epochs,
                  std::chrono::milliseconds timeout) {
  fail(ErrorCode::device_lost, device, ": stream ", stream.id, " has not finished within ", timeout.count(),
       " ms (device_timeout_ms): ", epochs.launched(), " operations launched, ", epochs.finished(), " finished");
}

}  // namespace tandem::gpu
