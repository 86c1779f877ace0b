#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include <boost/context/fiber.hpp>

namespace emulator {

/// Fibers of one thread of the host, each with a stack of its own that lives as long as the set. A fiber calls
/// `run(number)` again and again; between two calls, and wherever it likes, it hands over to another one. The thread
/// itself is the fiber kThread. Known to the address and thread sanitizers. Only the thread that made it may use it.
class Fibers {
 public:
  static constexpr int kThread = -1;
  /// `run(i)` is what fiber i does once; it returns the fiber to go on with.
  explicit Fibers(std::function<int(int)> run);
  ~Fibers();
  Fibers(const Fibers&) = delete;
  Fibers& operator=(const Fibers&) = delete;

  void grow(int count);             ///< at least this many fibers
  void switch_to(int fiber);        ///< returns when somebody switches back
  static std::uint64_t switches();  ///< of all sets so far, but for blocks under way
  void count_switches();            ///< adds those since the last call
  [[nodiscard]] int count() const { return static_cast<int>(fibers_.size()); }

 private:
  struct Fiber {
    boost::context::fiber context;  // where it goes on, while another one runs
    std::unique_ptr<std::byte[]> memory;
    const void* stack = nullptr;
    std::size_t stack_bytes = 0;
    void* fake_stack = nullptr;  // the address sanitizer's
    void* thread_sanitizer = nullptr;
  };

  Fiber& at(int fiber) { return fiber == kThread ? thread_ : *fibers_[static_cast<std::size_t>(fiber)]; }
  boost::context::fiber main(int fiber, boost::context::fiber&& from);
  void before_switch(Fiber& next, bool ends);
  void after_switch(boost::context::fiber&& from);

  std::function<int(int)> run_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  Fiber thread_;
  Fiber* active_ = &thread_;
  Fiber* previous_ = nullptr;  // who handed over to the active one
  bool ending_ = false;
  std::uint64_t switches_ = 0;
};

}  // namespace emulator
