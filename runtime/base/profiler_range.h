#pragma once

namespace tandem {

/// A range of this thread that NVIDIA's profilers show (NVTX), from its construction to its end. Nothing where no
/// profiler is attached, or where the build found no NVTX. Thread-safe.
class ProfilerRange {
 public:
  explicit ProfilerRange(const char* name) noexcept;
  ~ProfilerRange();
  ProfilerRange(const ProfilerRange&) = delete;
  ProfilerRange& operator=(const ProfilerRange&) = delete;
};

}  // namespace tandem
