#pragma once
#include <atomic>
#include <source_location>
#include <type_traits>

#include "cuda_emulator/thread.h"

// Atomics and fences. All atomics are sequentially consistent and seen by the host, which is more than CUDA promises:
// the emulator finds no missing fence.

namespace emulator {
template <class T, class Function>
T atomic_update(T* address, Function function) {
  std::atomic_ref<T> target(*address);
  T old = target.load();
  while (!target.compare_exchange_weak(old, function(old))) {
  }
  return old;
}

/// A parameter of this type takes no part in the deduction of T, so that atomicAdd(&unsigned_sum, 1) works as in CUDA.
template <class T>
using Value = std::type_identity_t<T>;

void fence();
}  // namespace emulator

template <class T>
T atomicAdd(T* address, emulator::Value<T> value) {
  return emulator::atomic_update(address, [value](T old) { return static_cast<T>(old + value); });
}
template <class T>
T atomicMax(T* address, emulator::Value<T> value) {
  static_assert(std::is_integral_v<T>, "CUDA has no atomicMax of floats");
  return emulator::atomic_update(address, [value](T old) { return old < value ? value : old; });
}
template <class T>
T atomicMin(T* address, emulator::Value<T> value) {
  static_assert(std::is_integral_v<T>, "CUDA has no atomicMin of floats");
  return emulator::atomic_update(address, [value](T old) { return value < old ? value : old; });
}
template <class T>
T atomicOr(T* address, emulator::Value<T> value) {
  return std::atomic_ref<T>(*address).fetch_or(value);
}
template <class T>
T atomicAnd(T* address, emulator::Value<T> value) {
  return std::atomic_ref<T>(*address).fetch_and(value);
}
template <class T>
T atomicExch(T* address, emulator::Value<T> value) {
  return std::atomic_ref<T>(*address).exchange(value);
}
template <class T>
T atomicCAS(T* address, emulator::Value<T> compare, emulator::Value<T> value) {
  std::atomic_ref<T>(*address).compare_exchange_strong(compare, value);
  return compare;
}
template <class T>
T atomicAdd_system(T* address, emulator::Value<T> value) {
  return atomicAdd(address, value);
}
template <class T>
T atomicExch_system(T* address, emulator::Value<T> value) {
  return atomicExch(address, value);
}
template <class T>
T atomicCAS_system(T* address, emulator::Value<T> compare, emulator::Value<T> value) {
  return atomicCAS(address, compare, value);
}

inline void __threadfence() { emulator::fence(); }
inline void __threadfence_block() { emulator::fence(); }
inline void __threadfence_system() { emulator::fence(); }
inline void __nanosleep(unsigned, std::source_location where = std::source_location::current()) {
  emulator::pause_thread(where);
}
