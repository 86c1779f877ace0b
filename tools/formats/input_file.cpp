#include "tools/formats/input_file.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/error.h"

namespace tandem::tools {
namespace {

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

}  // namespace

InputFile::InputFile(const std::filesystem::path& path, const std::string& option)
    : name_((option.empty() ? "" : option + ": ") + path.string()) {
  // Opening a pipe must not wait for its writer.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  TANDEM_CHECK(descriptor >= 0, io, name_, ": cannot be opened: ", std::strerror(errno));
  struct ::stat status {};
  const bool known = ::fstat(descriptor, &status) == 0;
  if (!known || !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    fail(ErrorCode::io, name_, ": is ", known ? kind_of(status.st_mode) : "unknown", "; allowed: a regular file");
  }
  descriptor_ = descriptor;
  bytes_ = static_cast<std::size_t>(status.st_size);
}

InputFile::~InputFile() { ::close(descriptor_); }

std::string InputFile::text() const {
  std::string text(bytes_, '\0');
  text.resize(read_some(0, std::as_writable_bytes(std::span(text))));
  return text;
}

void InputFile::read(std::size_t offset, std::span<std::byte> target, const std::string& what) const {
  const std::size_t there = read_some(offset, target);
  TANDEM_CHECK(there == target.size(), io, name_, ": truncated: ", what, " takes ", target.size(), " bytes from byte ",
               offset, " on, ", there, " are there");
}

std::size_t InputFile::read_some(std::size_t offset, std::span<std::byte> target) const {
  std::size_t done = 0;
  while (done < target.size()) {
    const ssize_t count =
        ::pread(descriptor_, target.data() + done, target.size() - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    TANDEM_CHECK(count >= 0, io, name_, ": cannot be read: ", std::strerror(errno));
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  return done;
}

}  // namespace tandem::tools
