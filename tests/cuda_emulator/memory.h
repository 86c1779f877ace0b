#pragma once
#include <cstddef>
#include <string>

#include "machine.h"

namespace emulator {

/// Who may use memory, and how.
enum class MemoryKind { pageable, pinned, device };

// The registry of device memory and pinned host memory. Thread-safe.

void* allocate_device(int device, std::size_t bytes);  ///< throws Refusal(cudaErrorMemoryAllocation)
void free_device(void* pointer);                       ///< throws Refusal
int device_of(const void* pointer);                    ///< of an allocation that starts there; throws Refusal
void* allocate_pinned(std::size_t bytes);
void free_pinned(void* pointer);  ///< throws Refusal
void register_pinned(void* pointer, std::size_t bytes);
void unregister_pinned(void* pointer);

/// Kind of the memory at `pointer`.
MemoryKind memory_kind(const void* pointer);
/// The device that the memory at `pointer` was allocated on; -1 for none.
int owner_of(const void* pointer);
/// Throws Refusal(cudaErrorInvalidValue) unless [pointer, pointer + bytes) lies in one living allocation of `kind`, or,
/// if `kind` is pageable, outside of device memory and not only in part in pinned memory.
void require_memory(const void* pointer, std::size_t bytes, MemoryKind kind, const std::string& what);
/// Likewise for memory that kernels may use: device memory or pinned memory.
void require_mapped(const void* pointer, std::size_t bytes, const std::string& what);

/// Throws Fault if the guard zone of an allocation has been written to.
void check_guards();
std::size_t device_bytes(int device);
int device_allocations();
int pinned_allocations();

}  // namespace emulator
