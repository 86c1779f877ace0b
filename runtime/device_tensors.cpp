#include "runtime/device_tensors.h"

#include <array>
#include <cstddef>

#include "runtime/base/error.h"
#include "runtime/request_check.h"

namespace tandem {
namespace {

/// A tensor of a request, and what it must look like.
struct Named {
  TensorView* tensor;
  TensorSpec spec;
};

TensorView const_view(const MutableTensorView& view) {
  return {view.data, view.dtype,        view.tokens,      view.heads,
          view.dim,  view.token_stride, view.head_stride, view.on_device};
}

std::int64_t dense_bytes(const TensorView& tensor) {
  return tensor.tokens * tensor.heads * tensor.dim * static_cast<std::int64_t>(bytes_of(tensor.dtype));
}

constexpr std::int64_t aligned(std::int64_t bytes) noexcept { return (bytes + 63) / 64 * 64; }

void check_on_device(const TensorView& tensor, const TensorSpec& spec, const gpu::Device& device,
                     gpu::CallerStream caller) {
  check_tensor(tensor, spec);
  if (tensor.tokens == 0) return;
  const auto width = static_cast<std::int64_t>(bytes_of(tensor.dtype));
  TANDEM_CHECK(reinterpret_cast<std::uintptr_t>(tensor.data) % static_cast<std::uintptr_t>(width) == 0 &&
                   (tensor.tokens == 1 || tensor.token_stride % width == 0) &&
                   (tensor.heads == 1 || tensor.head_stride % width == 0),
               invalid_argument, spec.name, ".data or .stride is not a multiple of ", width,
               " bytes, the size of an element: GPUs read nothing else");
  device.check_tensor(spec.name, tensor.data, caller);
}

/// Of dense tensors one after the other, from `first` on in `memory`.
template <std::size_t N>
void fetch(const std::array<Named, N>& tensors, gpu::Device& device, gpu::CallerStream caller, std::int64_t more,
           cpu::AlignedVector<std::byte>& memory) {
  std::int64_t bytes = more;
  for (const Named& named : tensors) {
    if (named.tensor == nullptr || !named.tensor->on_device) continue;
    check_on_device(*named.tensor, named.spec, device, caller);
    bytes += aligned(dense_bytes(*named.tensor));
  }
  memory.resize(static_cast<std::size_t>(bytes));
  std::array<gpu::TensorFetch, N> fetches;
  std::size_t count = 0;
  std::byte* target = memory.data() + more;
  for (const Named& named : tensors) {
    if (named.tensor == nullptr || !named.tensor->on_device) continue;
    TensorView& tensor = *named.tensor;
    fetches[count++] = {tensor, target};
    const std::byte* host = target;
    target += aligned(dense_bytes(tensor));
    tensor = dense_view(host, tensor.dtype, tensor.tokens, tensor.heads, tensor.dim);
  }
  if (count > 0) device.fetch(fetches.data(), static_cast<std::int64_t>(count), caller);
}

}  // namespace

AppendRequest on_host(const AppendRequest& request, const AttentionShape& shape, gpu::Device& device,
                      StepBuffers& buffers) {
  AppendRequest host = request;
  if (!request.kv.k.on_device && !request.kv.v.on_device && !(request.q && request.q->on_device)) return host;
  const std::int64_t tokens = check_counts("num_tokens", request.sequences, request.num_tokens);
  fetch<3>({Named{&host.kv.k, {"k", tokens, shape.num_kv_heads, shape.head_dim_k}},
            Named{&host.kv.v, {"v", tokens, shape.num_kv_heads, shape.head_dim_v}},
            Named{host.q ? &*host.q : nullptr, {"q", tokens, shape.num_q_heads, shape.head_dim_k}}},
           device, request.stream, 0, buffers.tensors);
  return host;
}

AttendRequest on_host(const AttendRequest& request, const AttentionShape& shape, gpu::Device& device,
                      StepBuffers& buffers) {
  AttendRequest host = request;
  if (!request.q.on_device && !request.out.on_device) return host;
  const std::int64_t queries = check_counts("num_queries", request.sequences, request.num_queries);
  std::int64_t out_bytes = 0, lse_bytes = 0;
  if (request.out.on_device) {
    check_on_device(const_view(request.out), {"out", queries, shape.num_q_heads, shape.head_dim_v}, device,
                    request.stream);
    out_bytes = aligned(dense_bytes(const_view(request.out)));
    if (request.lse != nullptr && queries > 0) {
      check_on_device(
          dense_view(reinterpret_cast<const std::byte*>(request.lse), DType::f32, queries, 1, shape.num_q_heads),
          {"lse", queries, 1, shape.num_q_heads}, device, request.stream);
      lse_bytes = aligned(queries * shape.num_q_heads * static_cast<std::int64_t>(sizeof(float)));
    }
  }
  fetch<1>({Named{&host.q, {"q", queries, shape.num_q_heads, shape.head_dim_k}}}, device, request.stream,
           out_bytes + lse_bytes, buffers.tensors);
  if (!request.out.on_device) return host;
  host.out = dense_view(buffers.tensors.data(), request.out.dtype, queries, request.out.heads, request.out.dim);
  if (request.lse != nullptr) host.lse = reinterpret_cast<float*>(buffers.tensors.data() + out_bytes);
  return host;
}

void put_results(const AttendRequest& request, const AttendRequest& host, gpu::Device& device) {
  if (!request.out.on_device || request.out.tokens == 0) return;
  std::array<gpu::TensorPut, 2> puts{gpu::TensorPut{host.out.data, request.out}};
  std::int64_t count = 1;
  if (request.lse != nullptr) {
    MutableTensorView lse = dense_view(request.lse, DType::f32, request.out.tokens, 1, request.out.heads);
    lse.on_device = true;
    puts[static_cast<std::size_t>(count++)] = {reinterpret_cast<const std::byte*>(host.lse), lse};
  }
  device.put(puts.data(), count, request.stream);
}

}  // namespace tandem
