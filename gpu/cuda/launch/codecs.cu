#include "gpu/cuda/kernels/work.cuh"
#include "gpu/cuda/launch/kivi_launch.h"
#include "gpu/cuda/launch/nuq_launch.h"
#include "gpu/cuda/launch/qjl_launch.h"
#include "gpu/cuda/launch/scaled_bytes_launch.h"
#include "runtime/base/error.h"

namespace tandem::gpu::cuda {
namespace {

[[noreturn]] void fail_unsupported(const cpu::BlockFormat& format) {
  fail(ErrorCode::unsupported, "there are no CUDA kernels for codec ", cpu::to_string(format.kind),
       "; there are for int8, fp8, kivi, qjl and nuq");
}

void check_dims(const cpu::BlockFormat& format) {
  TANDEM_CHECK(format.padded_k <= kMaxKernelDim && format.padded_v <= kMaxKernelDim, unsupported,
               "CUDA kernels of codec ", cpu::to_string(format.kind), " take head dimensions up to ", kMaxKernelDim,
               "; these are ", format.dim_k, " and ", format.dim_v);
}

}  // namespace

void launch_encode(const cpu::BlockFormat& format, const EncodeItem* items, std::int64_t num_items,
                   cudaStream_t stream) {
  check_dims(format);
  if (num_items == 0) return;
  switch (format.kind) {
    case cpu::CodecKind::int8:
    case cpu::CodecKind::fp8:
      return encode_scaled_bytes(format, items, num_items, stream);
    case cpu::CodecKind::kivi:
      return encode_kivi(format, items, num_items, stream);
    case cpu::CodecKind::qjl:
      return encode_qjl(format, items, num_items, stream);
    case cpu::CodecKind::nuq:
      return encode_nuq(format, items, num_items, stream);
    default:
      fail_unsupported(format);
  }
}

void launch_decode(const cpu::BlockFormat& format, const DecodeItem* items, std::int64_t num_items,
                   cudaStream_t stream) {
  check_dims(format);
  if (num_items == 0) return;
  switch (format.kind) {
    case cpu::CodecKind::int8:
    case cpu::CodecKind::fp8:
      return decode_scaled_bytes(format, items, num_items, stream);
    case cpu::CodecKind::kivi:
      return decode_kivi(format, items, num_items, stream);
    case cpu::CodecKind::qjl:
      return decode_qjl(format, items, num_items, stream);
    case cpu::CodecKind::nuq:
      return decode_nuq(format, items, num_items, stream);
    default:
      fail_unsupported(format);
  }
}

void launch_coded_attention(const cpu::BlockFormat& format, std::int32_t vectors, const CodedJob* jobs,
                            const WorkItem* items, std::int64_t num_items, Partials partials, cudaStream_t stream) {
  check_dims(format);
  if (num_items == 0) return;
  switch (format.kind) {
    case cpu::CodecKind::int8:
    case cpu::CodecKind::fp8:
      return attend_scaled_bytes(format, vectors, jobs, items, num_items, partials, stream);
    case cpu::CodecKind::kivi:
      return attend_kivi(format, vectors, jobs, items, num_items, partials, stream);
    case cpu::CodecKind::qjl:
      return attend_qjl(vectors, jobs, items, num_items, partials, stream);
    case cpu::CodecKind::nuq:
      return attend_nuq(format, vectors, jobs, items, num_items, partials, stream);
    default:
      fail_unsupported(format);
  }
}

std::int32_t prepared_dim(const cpu::BlockFormat& format) {
  switch (format.kind) {
    case cpu::CodecKind::int8:
    case cpu::CodecKind::fp8:
    case cpu::CodecKind::kivi:
    case cpu::CodecKind::nuq:
      return 0;
    case cpu::CodecKind::qjl:
      return prepared_dim_qjl(format);
    default:
      fail_unsupported(format);
  }
}

void launch_prepare_queries(const cpu::BlockFormat& format, const CodedJob* jobs, std::int64_t num_jobs,
                            std::int32_t most_vectors, cudaStream_t stream) {
  if (prepared_dim(format) == 0 || num_jobs == 0 || most_vectors == 0) return;
  prepare_queries_qjl(format, jobs, num_jobs, most_vectors, stream);
}

}  // namespace tandem::gpu::cuda
