#include "runtime/c_api_views.h"

#include <limits>

#include "runtime/c_api_config.h"
#include "runtime/c_api_structs.h"
#include "runtime/config.h"

namespace tandem {
namespace {

static_assert(TD_N_STAGES == kNumStages);

/// Before anything is computed from the extents: within these bounds the bytes of a token fit into 64 bits.
void check_extent(const char* tensor, const char* field, std::int64_t value, std::int64_t most) {
  TANDEM_CHECK(value >= 0 && value <= most, invalid_argument, tensor, ".", field, " is ", value, "; allowed: 0 to ",
               most);
}

MutableTensorView view_of_dtype(const char* name, const td_tensor& tensor, DType dtype) {
  TANDEM_CHECK(tensor.memory == TD_MEMORY_HOST || tensor.memory == TD_MEMORY_DEVICE, invalid_argument, name,
               ".memory is ", tensor.memory, "; allowed: 0 (TD_MEMORY_HOST), 1 (TD_MEMORY_DEVICE)");
  check_extent(name, "shape[0] (tokens)", tensor.shape[0], kMaxTokens);
  check_extent(name, "shape[1] (heads)", tensor.shape[1], std::numeric_limits<std::int32_t>::max());
  check_extent(name, "shape[2] (head_dim)", tensor.shape[2], kMaxHeadDim);
  MutableTensorView view =
      dense_view(static_cast<std::byte*>(tensor.data), dtype, tensor.shape[0], tensor.shape[1], tensor.shape[2]);
  if (tensor.stride[0] != 0 || tensor.stride[1] != 0) {
    view.token_stride = tensor.stride[0];
    view.head_stride = tensor.stride[1];
  }
  view.on_device = tensor.memory == TD_MEMORY_DEVICE;
  return view;
}

TensorView const_view(const MutableTensorView& view) {
  return {view.data, view.dtype,        view.tokens,      view.heads,
          view.dim,  view.token_stride, view.head_stride, view.on_device};
}

}  // namespace

MutableTensorView view_of(const char* name, const td_tensor& tensor) {
  return view_of_dtype(name, tensor, dtype_of(concat(name, ".dtype").c_str(), tensor.dtype));
}

TensorView const_view_of(const char* name, const td_tensor& tensor) { return const_view(view_of(name, tensor)); }

TensorView rows_view_of(const char* name, const td_tensor& tensor) {
  const bool blocked = tensor.dtype >= kNumHostDTypes && tensor.dtype < kNumRowFormats;
  TANDEM_CHECK(blocked || (tensor.dtype >= 0 && tensor.dtype < kNumDTypes), invalid_argument, name, ".dtype is ",
               tensor.dtype, "; allowed: 0 (f32), 1 (f16), 2 (bf16), 5 (q8_0), 6 (q4_0)");
  return const_view(view_of_dtype(name, tensor, static_cast<DType>(tensor.dtype)));
}

void check_stats(const td_stats* target) {
  TANDEM_CHECK(target == nullptr || target->size >= sizeof(target->size), invalid_argument, "stats.size is ",
               target->size, "; set it with TD_INIT");
}

void write_stats(const StepStats& stats, int workers, td_stats* target) {
  if (target == nullptr) return;
  td_stats s{};
  s.num_workers = workers;
  for (int i = 0; i < TD_N_STAGES; ++i) {
    s.us[i] = stats.trace.stages[static_cast<std::size_t>(i)].us;
    s.bytes[i] = stats.trace.stages[static_cast<std::size_t>(i)].bytes;
  }
  for_each_figure(stats, s, [](const auto& value, auto& field) { field = value; });
  write_struct(s, target);
}

}  // namespace tandem
