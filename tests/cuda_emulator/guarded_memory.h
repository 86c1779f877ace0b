#pragma once
#include <cstddef>
#include <memory>

namespace emulator {

/// Memory between two guard zones, filled with junk that is a signalling NaN as float. The address sanitizer reports
/// each access to a guard zone; without it, intact() tells that one has been written to.
class GuardedMemory {
 public:
  static constexpr std::size_t kGuardBytes = 256;  ///< also the alignment

  explicit GuardedMemory(std::size_t bytes);  ///< throws std::bad_alloc
  ~GuardedMemory();
  GuardedMemory(GuardedMemory&& other) noexcept;
  GuardedMemory& operator=(GuardedMemory&&) = delete;

  [[nodiscard]] unsigned char* data() const noexcept { return base_ + kGuardBytes; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] bool intact() const noexcept;

 private:
  unsigned char* base_;
  std::size_t bytes_;
};

/// Fills with 0x7fa0dead, a signalling NaN.
void fill_junk(unsigned char* data, std::size_t bytes);

}  // namespace emulator
