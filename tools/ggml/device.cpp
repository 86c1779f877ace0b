#include "tools/ggml/device.h"

#include <cstring>
#include <exception>
#include <memory>
#include <string>

#include "ggml-backend-impl.h"
#include "tools/ggml/attention.h"
#include "tools/ggml/attention_op.h"
#include "tools/ggml/cache_write.h"
#include "tools/ggml/log.h"
#include "tools/ggml/rewritten_caches.h"

namespace tandem::ggml {
namespace {

/// Of the process, from registration() on.
Settings settings;

// ---- backend: one per llama_context
// ----------------------------------------------------------------------------------

Attention& attention_of(ggml_backend_t backend) { return *static_cast<Attention*>(backend->context); }

const char* backend_name(ggml_backend_t /*backend*/) { return "TANDEM"; }

void free_backend(ggml_backend_t backend) {
  delete static_cast<Attention*>(backend->context);
  delete backend;
}

/// False for a node that supports_op() does not accept.
bool compute(Attention& attention, const ggml_tensor& node) {
  switch (node.op) {
    case GGML_OP_FLASH_ATTN_EXT:
      attention.attend(attention_op(node));
      return true;
    case GGML_OP_SET_ROWS:
      attention.write(node);
      return true;
    case GGML_OP_NONE:
    case GGML_OP_RESHAPE:
    case GGML_OP_VIEW:
    case GGML_OP_PERMUTE:
    case GGML_OP_TRANSPOSE:
      return true;
    default:
      return false;
  }
}

ggml_status compute_graph(ggml_backend_t backend, ggml_cgraph* graph) {
  for (int i = 0; i < ggml_graph_n_nodes(graph); ++i) {
    const ggml_tensor& node = *ggml_graph_node(graph, i);
    if ((node.flags & GGML_TENSOR_FLAG_COMPUTE) == 0) continue;
    try {
      if (compute(attention_of(backend), node)) continue;
      log(LogLevel::error,
          std::string("the scheduler sent an operation that is not supported: ") + ggml_op_desc(&node));
    } catch (const std::exception& error) {
      log(LogLevel::error, std::string(ggml_op_desc(&node)) + " " + node.name + ": " + error.what());
    }
    return GGML_STATUS_FAILED;
  }
  return GGML_STATUS_SUCCESS;
}

ggml_guid_t guid() {
  static ggml_guid value = {0x74, 0x61, 0x6e, 0x64, 0x65, 0x6d, 0x2d, 0x72,
                            0x6f, 0x77, 0x73, 0x2d, 0x67, 0x67, 0x6d, 0x6c};
  return &value;
}

ggml_backend_i backend_functions() {
  ggml_backend_i functions{};  // NULL: not provided
  functions.get_name = &backend_name;
  functions.free = &free_backend;
  functions.graph_compute = &compute_graph;
  return functions;
}

void set_num_threads(ggml_backend_t backend, int num_threads) { attention_of(backend).set_engine_threads(num_threads); }

// ---- device
// ----------------------------------------------------------------------------------------------------------

const char* device_name(ggml_backend_dev_t /*device*/) { return "TANDEM"; }

const char* device_description(ggml_backend_dev_t /*device*/) {
  static const std::string text = std::string("Tandem ") + td_version() + " attention over host KV caches";
  return text.c_str();
}

void device_memory(ggml_backend_dev_t /*device*/, std::size_t* free, std::size_t* total) { *free = *total = 0; }

enum ggml_backend_dev_type device_type(ggml_backend_dev_t /*device*/) { return GGML_BACKEND_DEVICE_TYPE_ACCEL; }

void device_properties(ggml_backend_dev_t device, ggml_backend_dev_props* properties) {
  *properties = {};
  properties->name = device_name(device);
  properties->description = device_description(device);
  properties->type = device_type(device);
  properties->caps.buffer_from_host_ptr = true;
}

ggml_backend_t make_backend(ggml_backend_dev_t device, const char* /*parameters*/) {
  auto attention = std::make_unique<Attention>(settings);
  return new ggml_backend{guid(), backend_functions(), device, attention.release()};
}

ggml_backend_buffer_type_t buffer_type(ggml_backend_dev_t /*device*/) { return ggml_backend_cpu_buffer_type(); }

ggml_backend_buffer_t buffer_from_host(ggml_backend_dev_t /*device*/, void* data, std::size_t bytes,
                                       std::size_t /*largest_tensor*/) {
  return ggml_backend_cpu_buffer_from_ptr(data, bytes);
}

bool is_attention_taken(const AttentionOp& op) {
  // Prefill stays with the engine. What is no cache has to be bound for the call, and pays only as a test.
  return op.tokens() <= settings.max_queries && is_computable(op) && (reads_cache(op) || settings.exact());
}

bool supports_op(ggml_backend_dev_t /*device*/, const ggml_tensor* node) {
  switch (node->op) {
    case GGML_OP_NONE:
    case GGML_OP_RESHAPE:
    case GGML_OP_VIEW:
    case GGML_OP_PERMUTE:
    case GGML_OP_TRANSPOSE:
      return true;
    case GGML_OP_FLASH_ATTN_EXT:
      return is_attention_taken(attention_op(*node));
    case GGML_OP_SET_ROWS:
      if (is_cache_write(*node)) return true;
      break;
    default:
      break;
  }
  note_declined(*node);
  return false;
}

bool supports_buffer_type(ggml_backend_dev_t /*device*/, ggml_backend_buffer_type_t type) {
  return ggml_backend_buft_is_host(type);
}

ggml_backend_device_i device_functions() {
  ggml_backend_device_i functions{};
  functions.get_name = &device_name;
  functions.get_description = &device_description;
  functions.get_memory = &device_memory;
  functions.get_type = &device_type;
  functions.get_props = &device_properties;
  functions.init_backend = &make_backend;
  functions.get_buffer_type = &buffer_type;
  functions.buffer_from_host_ptr = &buffer_from_host;
  functions.supports_op = &supports_op;
  functions.supports_buft = &supports_buffer_type;
  return functions;
}

// ---- registration
// ----------------------------------------------------------------------------------------------------

const char* registration_name(ggml_backend_reg_t /*registration*/) { return "TANDEM"; }

std::size_t num_devices(ggml_backend_reg_t /*registration*/) { return 1; }

ggml_backend_dev_t device_at(ggml_backend_reg_t registration, std::size_t /*index*/) {
  static ggml_backend_device device{device_functions(), registration, nullptr};
  return &device;
}

void* function_named(ggml_backend_reg_t /*registration*/, const char* name) {
  return std::strcmp(name, "ggml_backend_set_n_threads") == 0 ? reinterpret_cast<void*>(&set_num_threads) : nullptr;
}

}  // namespace

ggml_backend_reg_t registration(const Settings& given) {
  settings = given;
  static ggml_backend_reg value{
      GGML_BACKEND_API_VERSION, {&registration_name, &num_devices, &device_at, &function_named}, nullptr};
  return &value;
}

}  // namespace tandem::ggml
