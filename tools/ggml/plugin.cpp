// What ggml_backend_load() looks for: the registration, or NULL where the plugin must or should stay out of the way.
#include <exception>
#include <string>

#include "ggml-backend-impl.h"
#include "ggml.h"
#include "tandem/tandem.h"
#include "tools/ggml/device.h"
#include "tools/ggml/log.h"
#include "tools/ggml/settings.h"
#include "tools/ggml/totals.h"

namespace {

using tandem::ggml::log;
using tandem::ggml::LogLevel;

/// ggml's tables of functions and numbers of operations change while GGML_BACKEND_API_VERSION stays: a plugin that was
/// built for another version would be loaded and crash.
bool is_host_known() {
  const std::string built_for = TANDEM_BUILT_FOR;
  if (built_for == ggml_version()) return true;
  log(LogLevel::error, "built for ggml " + built_for + ", this host has ggml " + ggml_version() +
                           "; not loaded. Build the plugin with TANDEM_GGML_SOURCE_DIR set to the host's source");
  return false;
}

/// Sources between two versions share a version: at least the operations must have the numbers that they were compiled
/// with.
bool are_operations_known() {
  const std::string attention = ggml_op_name(GGML_OP_FLASH_ATTN_EXT), rows = ggml_op_name(GGML_OP_SET_ROWS);
  if (attention == "FLASH_ATTN_EXT" && rows == "SET_ROWS") return true;
  log(LogLevel::error, "operation " + std::to_string(GGML_OP_FLASH_ATTN_EXT) + " of this host is " + attention +
                           " and not FLASH_ATTN_EXT, or " + std::to_string(GGML_OP_SET_ROWS) + " is " + rows +
                           " and not SET_ROWS; not loaded. Build the plugin with the host's own source");
  return false;
}

bool is_library_known() {
  if (td_abi_version() == TANDEM_ABI) return true;
  log(LogLevel::error, "built for Tandem's ABI " + std::to_string(TANDEM_ABI) + ", the library has " +
                           std::to_string(td_abi_version()) + "; not loaded");
  return false;
}

ggml_backend_reg_t registration() noexcept {
  try {
    if (!is_host_known() || !are_operations_known() || !is_library_known()) return nullptr;
    const tandem::ggml::Settings settings = tandem::ggml::settings_from_environment();
    tandem::ggml::show_messages_from(settings.log);
    if (settings.disabled) {
      log(LogLevel::info, "TANDEM_DISABLE is 1; not loaded");
      return nullptr;
    }
    tandem::ggml::show_messages_of_library();  // from here on the plugin stays
    if (settings.stats) tandem::ggml::print_totals_at_exit();
    return tandem::ggml::registration(settings);
  } catch (const std::exception& error) {
    log(LogLevel::error, std::string(error.what()) + "; not loaded");
    return nullptr;
  }
}

}  // namespace

GGML_BACKEND_DL_IMPL(registration)
