#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace tandem::gpu::cuda {

struct CodedJob;
struct MassItem;
struct MergeItem;
struct MoveItem;
struct Partials;
struct RowJob;
struct TensorCopy;
struct UnpackItem;
struct WorkItem;

/// Element types of rows that kernels know.
enum class RowType : std::int32_t { f32, f16, bf16 };

/// The largest padded dimension of K and V that kernels know.
inline constexpr std::int32_t kMaxKernelDim = 256;

/// Query vectors that one item of work over rows has at most, for jobs of up to `num_vectors`, on the current device.
/// Throws Error(device_lost).
std::int32_t row_vectors_per_item(RowType type, std::int32_t padded_dim, std::int32_t num_vectors);

// Each of these starts one kernel, or none where there is nothing to do; jobs, items and what they point to are in
// device memory and stay until it is done. Thread-safe. Throws Error(device_lost).

/// `padded_dim` is the largest padded dimension of the jobs, `vectors` what row_vectors_per_item() says of them.
void launch_row_attention(RowType type, std::int32_t padded_dim, std::int32_t vectors, const RowJob* jobs,
                          const WorkItem* items, std::int64_t num_items, Partials partials, cudaStream_t stream);

/// Merges the partials of `num_items` query vectors.
void launch_merge_partials(const MergeItem* items, std::int64_t num_items, Partials partials, std::int32_t dim_v,
                           cudaStream_t stream);

/// Attention that rows got; `padded_k` is that of the jobs.
void launch_attention_mass(RowType type, std::int32_t padded_k, const RowJob* jobs, const MassItem* items,
                           std::int64_t num_items, cudaStream_t stream);

/// A kernel that does nothing, to see whether the device runs any.
void launch_nothing(cudaStream_t stream);

void launch_move_runs(const MoveItem* items, std::int64_t num_items, cudaStream_t stream);

/// Rows of whole elements of at least two bytes, each at a multiple of its size.
void launch_copy_tensor(const TensorCopy& copy, cudaStream_t stream);

/// Rows as fp32.
void launch_unpack_rows(RowType type, const UnpackItem* items, std::int64_t num_items, std::int32_t padded_k,
                        std::int32_t padded_v, std::int32_t v_offset, cudaStream_t stream);

}  // namespace tandem::gpu::cuda
