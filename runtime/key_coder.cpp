#include "runtime/key_coder.h"

#include <atomic>

#include "gpu/device.h"
#include "runtime/base/error.h"
#include "runtime/base/log.h"

namespace tandem {
namespace {

void log_refusal(const char* reason) {
  static std::atomic_flag logged;
  if (logged.test_and_set()) return;
  log(LogLevel::warning, concat("index: no memory to code keys on the device; the CPU codes them: ", reason));
}

}  // namespace

cpu::KeyCoder key_coder_of(gpu::Device& device) {
  if (!device.codes_keys()) return {};
  return [&device](const cpu::KeyCoding& coding) {
    try {
      return device.code_keys(coding, gpu::kWindowStream);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::out_of_memory) throw;
      log_refusal(error.what());
      return false;
    }
  };
}

}  // namespace tandem
