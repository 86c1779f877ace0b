#include "stream.h"

#include <algorithm>
#include <map>
#include <thread>
#include <utility>

namespace emulator {

std::uint64_t Stream::enqueue(Operation operation) {
  const std::lock_guard lock(mutex_);
  queue_.push_back({std::move(operation), Clock::now()});
  changed_.notify_all();
  return ++enqueued_;
}

void Stream::wait(std::uint64_t number) {
  std::unique_lock lock(mutex_);
  wanted_ = std::max(wanted_, number);
  changed_.notify_all();
  changed_.wait(lock, [&] { return done_ >= number; });
}

bool Stream::done(std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  wanted_ = std::max(wanted_, number);
  changed_.notify_all();
  return done_ >= number;
}

std::uint64_t Stream::last() {
  const std::lock_guard lock(mutex_);
  return enqueued_;
}

void Stream::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

void Stream::wake() {
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

bool Stream::due(const Config& now) const {
  return now.progress == Progress::eager || wanted_ > done_ || closed_ || sticky_error(device_) != cudaSuccess ||
         Clock::now() >= queue_.front().since + std::chrono::milliseconds(now.late_after_ms);
}

void Stream::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return closed_ || !queue_.empty(); });
    if (queue_.empty()) return;
    if (const Config now = config(); !due(now)) {
      changed_.wait_until(lock, queue_.front().since + std::chrono::milliseconds(now.late_after_ms));
      continue;
    }
    Operation operation = std::move(queue_.front().operation);
    queue_.pop_front();
    lock.unlock();
    execute(operation);
    operation = nullptr;  // what it holds goes before anyone sees its end
    lock.lock();
    ++done_;
    changed_.notify_all();
  }
}

void Stream::execute(Operation& operation) {
  delay(config().max_delay_us);
  if (sticky_error(device_) != cudaSuccess) return;
  try {
    operation();
  } catch (const Fault& fault) {
    record_fault(fault.what());
    lose_device(device_, cudaErrorIllegalAddress);
  } catch (const DeviceFailure& failure) {
    lose_device(device_, failure.code);
  }
}

void Stream::delay(int max_us) {
  if (max_us <= 0) return;
  const auto until = Clock::now() + std::chrono::microseconds(random_.below(static_cast<std::uint64_t>(max_us) + 1));
  while (Clock::now() < until) std::this_thread::yield();
}

namespace {

struct Streams {
  std::mutex mutex;
  std::condition_variable ended;
  std::map<cudaStream_t, std::shared_ptr<Stream>> living;
  std::vector<std::shared_ptr<Stream>> destroyed;
  std::uint64_t created = 0;
};

Streams& streams() {
  static Streams& all = *new Streams;  // their threads may outlive static objects
  return all;
}

void run_stream(const std::shared_ptr<Stream>& stream) {
  stream->work();
  Streams& all = streams();
  const std::lock_guard lock(all.mutex);
  std::erase(all.destroyed, stream);
  all.ended.notify_all();
}

}  // namespace

cudaStream_t create_stream(int device, unsigned flags) {
  Streams& all = streams();
  const std::uint64_t seed = config().seed;
  const std::lock_guard lock(all.mutex);
  const auto stream = std::make_shared<Stream>(device, flags, seed + 1000003 * ++all.created);
  auto* const handle = reinterpret_cast<cudaStream_t>(stream.get());
  all.living.emplace(handle, stream);
  std::thread(run_stream, stream).detach();
  return handle;
}

std::shared_ptr<Stream> find_stream(cudaStream_t handle) {
  if (handle == nullptr || handle == cudaStreamLegacy || handle == cudaStreamPerThread) {
    throw Refusal{cudaErrorInvalidResourceHandle, "the default stream"};
  }
  Streams& all = streams();
  const std::lock_guard lock(all.mutex);
  const auto found = all.living.find(handle);
  if (found == all.living.end()) {
    throw Refusal{cudaErrorInvalidResourceHandle, "a stream that does not exist or is destroyed"};
  }
  return found->second;
}

std::shared_ptr<Stream> working_stream(cudaStream_t handle) {
  auto stream = find_stream(handle);
  if (const cudaError_t lost = sticky_error(stream->device()); lost != cudaSuccess) throw Refusal{lost, {}};
  return stream;
}

void destroy_stream(cudaStream_t handle) {
  const auto stream = find_stream(handle);
  Streams& all = streams();
  {
    const std::lock_guard lock(all.mutex);
    all.living.erase(handle);
    all.destroyed.push_back(stream);
  }
  stream->close();
}

std::vector<std::shared_ptr<Stream>> streams_of(int device) {
  Streams& all = streams();
  const std::lock_guard lock(all.mutex);
  std::vector<std::shared_ptr<Stream>> found = all.destroyed;
  for (const auto& [handle, stream] : all.living) found.push_back(stream);
  std::erase_if(found, [device](const auto& stream) { return device >= 0 && stream->device() != device; });
  return found;
}

void wait_for_streams(int device) {
  for (const auto& stream : streams_of(device)) stream->wait(stream->last());
}

void wait_for_destroyed_streams() {
  Streams& all = streams();
  std::unique_lock lock(all.mutex);
  all.ended.wait(lock, [&] { return all.destroyed.empty(); });
}

int num_streams() {
  const std::lock_guard lock(streams().mutex);
  return static_cast<int>(streams().living.size());
}

}  // namespace emulator
