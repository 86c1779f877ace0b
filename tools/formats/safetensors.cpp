#include "tools/formats/safetensors.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <optional>
#include <set>
#include <span>

#include <nlohmann/json.hpp>
#include <sys/mman.h>

#include "runtime/base/error.h"
#include "tools/formats/input_file.h"
#include "tools/formats/safetensors_format.h"

namespace tandem::tools {

using Json = nlohmann::json;

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian and mapped as they are");

/// A whole file, mapped read-only.
class SafetensorsFile::Mapping {
 public:
  explicit Mapping(const std::filesystem::path& path) {
    const InputFile file(path);
    if (file.bytes() == 0) return;
    data_ = ::mmap(nullptr, file.bytes(), PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
    TANDEM_CHECK(data_ != MAP_FAILED, io, path.string(), ": cannot be mapped: ", std::strerror(errno));
    bytes_ = file.bytes();
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  Mapping(Mapping&&) = delete;
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping() {
    if (bytes_ > 0) ::munmap(data_, bytes_);
  }

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
    return {static_cast<const std::byte*>(data_), bytes_};
  }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

namespace {

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference implementation
constexpr std::size_t kPrefixBytes = sizeof(std::uint64_t);
constexpr std::size_t kListedNames = 100;

std::string text_of(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (const std::int64_t n : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
  return text + "]";
}

/// Bytes of a dense tensor; nothing when a size is negative or the product leaves int64.
std::optional<std::int64_t> dense_bytes(const std::vector<std::int64_t>& shape, DType dtype) {
  auto total = static_cast<std::int64_t>(bytes_of(dtype));
  for (const std::int64_t n : shape) {
    if (n < 0 || __builtin_mul_overflow(total, n, &total)) return {};
  }
  return total;
}

/// Turns one file's header into tensors.
class HeaderReader {
 public:
  HeaderReader(std::string file, std::span<const std::byte> bytes) : file_(std::move(file)), bytes_(bytes) {}

  std::map<std::string, Tensor> read() {
    const Json header = parse_header();
    std::map<std::string, Tensor> tensors;
    for (const auto& [name, entry] : header.items()) {
      if (name == kMetadataKey) {
        check_metadata(entry);
      } else {
        tensors.emplace(name, read_tensor(name, entry));
      }
    }
    check_coverage();
    return tensors;
  }

 private:
  struct Extent {
    std::int64_t begin, end;
    std::string name;
  };

  template <typename... Parts>
  [[noreturn]] void reject(const Parts&... parts) const {
    fail(ErrorCode::io, file_, ": ", parts...);
  }

  std::string_view header_text() const {
    if (bytes_.size() < kPrefixBytes) {
      reject("truncated: ", bytes_.size(), " bytes, the header's length alone takes ", kPrefixBytes);
    }
    std::uint64_t length = 0;
    std::memcpy(&length, bytes_.data(), sizeof(length));
    if (length > kMaxHeaderBytes) reject("header length is ", length, "; allowed: at most ", kMaxHeaderBytes);
    if (length > bytes_.size() - kPrefixBytes) {
      reject("truncated: header length is ", length, " but the file has ", bytes_.size(), " bytes");
    }
    return {reinterpret_cast<const char*>(bytes_.data()) + kPrefixBytes, static_cast<std::size_t>(length)};
  }

  Json parse_header() {
    const std::string_view text = header_text();
    data_ = bytes_.subspan(kPrefixBytes + text.size());
    std::set<std::string> names;
    const auto guard = [&](int depth, Json::parse_event_t event, Json& parsed) {
      constexpr int kMaxDepth = 4;  // object, tensor, shape, element
      if (depth > kMaxDepth) reject("header is nested deeper than ", kMaxDepth, " levels");
      if (event == Json::parse_event_t::key && depth == 1 && !names.insert(parsed.get<std::string>()).second) {
        reject("header names tensor '", parsed.get<std::string>(), "' twice");
      }
      return true;
    };
    Json header = Json::parse(text.begin(), text.end(), guard, /*allow_exceptions=*/false);
    if (!header.is_object()) reject("header is not a JSON object");
    return header;
  }

  void check_metadata(const Json& entry) const {
    const bool strings = entry.is_object() &&
                         std::all_of(entry.begin(), entry.end(), [](const Json& value) { return value.is_string(); });
    if (!strings) reject(kMetadataKey, " must be an object of strings");
  }

  Tensor read_tensor(const std::string& name, const Json& entry) {
    if (!entry.is_object()) reject("tensor '", name, "' is not described by an object");
    Tensor tensor;
    tensor.dtype = read_dtype(name, entry);
    tensor.shape = read_integers(name, entry, "shape");
    const std::vector<std::int64_t> offsets = read_integers(name, entry, "data_offsets");
    const auto available = static_cast<std::int64_t>(data_.size());
    if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > available) {
      reject("tensor '", name, "' has data_offsets ", text_of(offsets),
             "; allowed: [begin, end] with begin <= end <= ", available, ", the bytes after the header");
    }
    const auto needed = dense_bytes(tensor.shape, tensor.dtype);
    if (!needed) reject("tensor '", name, "' has shape ", text_of(tensor.shape), ", more bytes than 64 bits can count");
    if (*needed != offsets[1] - offsets[0]) {
      reject("tensor '", name, "' has ", offsets[1] - offsets[0], " bytes of data; its shape ", text_of(tensor.shape),
             " and dtype ", name_in_file(tensor.dtype), " need ", *needed);
    }
    tensor.data = data_.data() + offsets[0];
    extents_.push_back({offsets[0], offsets[1], name});
    return tensor;
  }

  DType read_dtype(const std::string& name, const Json& entry) const {
    const auto field = entry.find("dtype");
    if (field == entry.end() || !field->is_string()) reject("tensor '", name, "' has no dtype");
    const auto& text = field->get_ref<const std::string&>();
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      if (text == name_in_file(dtype)) return dtype;
    }
    reject("tensor '", name, "' has dtype '", text, "'; allowed: F32, F16, BF16");
  }

  std::vector<std::int64_t> read_integers(const std::string& name, const Json& entry, const char* field) const {
    const auto list = entry.find(field);
    const bool valid =
        list != entry.end() && list->is_array() && std::all_of(list->begin(), list->end(), [](const Json& value) {
          return value.is_number_unsigned() && value.get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX);
        });
    if (!valid) reject("tensor '", name, "': ", field, " must be an array of integers from 0 to 2^63 - 1");
    return list->get<std::vector<std::int64_t>>();
  }

  /// Tensors may neither overlap nor leave bytes that belong to nobody, as in the reference implementation.
  void check_coverage() {
    std::sort(extents_.begin(), extents_.end(), [](const Extent& a, const Extent& b) {
      return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    std::int64_t covered = 0;
    for (const Extent& extent : extents_) {
      if (extent.begin != covered) {
        reject("tensor '", extent.name, "' begins at byte ", extent.begin,
               extent.begin < covered ? " and overlaps" : "", "; allowed: ", covered,
               ", where the tensor before it ends");
      }
      covered = extent.end;
    }
    if (covered != static_cast<std::int64_t>(data_.size())) {
      reject(data_.size(), " bytes follow the header, the tensors need ", covered);
    }
  }

  std::string file_;
  std::span<const std::byte> bytes_;
  std::span<const std::byte> data_;
  std::vector<Extent> extents_;
};

}  // namespace

std::int64_t Tensor::elements() const noexcept {
  std::int64_t total = 1;
  for (const std::int64_t n : shape) total *= n;
  return total;
}

std::vector<float> Tensor::to_f32() const {
  std::vector<float> values(static_cast<std::size_t>(elements()));
  if (!values.empty()) load_f32(dtype, data, values.data(), elements());
  return values;
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile file;
  file.path_ = path;
  file.mapping_ = std::make_shared<const Mapping>(path);
  file.tensors_ = HeaderReader(path.string(), file.mapping_->bytes()).read();
  for (auto& [name, tensor] : file.tensors_) file.align(tensor);
  return file;
}

/// The format lets a header have any length, and so the data begin anywhere.
void SafetensorsFile::align(Tensor& tensor) {
  if (reinterpret_cast<std::uintptr_t>(tensor.data) % bytes_of(tensor.dtype) == 0) return;
  const auto bytes = static_cast<std::size_t>(tensor.elements()) * bytes_of(tensor.dtype);
  copies_.push_back(std::make_unique<std::byte[]>(bytes));
  std::copy_n(tensor.data, bytes, copies_.back().get());
  tensor.data = copies_.back().get();
}

const Tensor& SafetensorsFile::at(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found != tensors_.end()) return found->second;
  std::string names;
  std::size_t listed = 0;
  for (const auto& [existing, tensor] : tensors_) {
    if (listed++ == kListedNames) {
      names += ", ...";
      break;
    }
    names += (names.empty() ? "" : ", ") + existing;
  }
  fail(ErrorCode::io, path_.string(), ": no tensor '", name, "'; it has: ", names.empty() ? "none" : names);
}

const Tensor& SafetensorsFile::at(const std::string& name, const std::vector<std::int64_t>& shape) const {
  const Tensor& tensor = at(name);
  TANDEM_CHECK(tensor.shape == shape, io, path_.string(), ": tensor '", name, "' has shape ", text_of(tensor.shape),
               "; allowed: ", text_of(shape));
  return tensor;
}

}  // namespace tandem::tools
