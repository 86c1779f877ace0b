#include "tools/formats/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <set>
#include <span>

#include <nlohmann/json.hpp>

#include "runtime/base/error.h"
#include "tools/formats/input_file.h"
#include "tools/formats/safetensors_format.h"

namespace tandem::tools {

using Json = nlohmann::json;

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian and read as they are");

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

/// Where a tensor's data lie, in bytes from the header's end.
struct Extent {
  std::int64_t begin, end;
  std::string name;

  [[nodiscard]] std::int64_t bytes() const noexcept { return end - begin; }
};

/// What a header says.
struct Header {
  std::map<std::string, Tensor> tensors;  ///< without data
  std::vector<Extent> extents;            ///< ascending, without gaps, as long as the file was when it was opened
  std::size_t end = 0;                    ///< bytes before the data
};

/// Turns one file's header into tensors.
class HeaderReader {
 public:
  HeaderReader(std::string path, const InputFile& file) : path_(std::move(path)), file_(file) {}

  Header read() {
    const Json json = parse_header();
    for (const auto& [name, entry] : json.items()) {
      if (name == kMetadataKey) {
        check_metadata(entry);
      } else {
        header_.tensors.emplace(name, read_tensor(name, entry));
      }
    }
    check_coverage();
    check_length();
    return std::move(header_);
  }

 private:
  template <typename... Parts>
  [[noreturn]] void reject(const Parts&... parts) const {
    fail(ErrorCode::io, path_, ": ", parts...);
  }

  std::string header_text() const {
    if (file_.bytes() < kPrefixBytes) {
      reject("truncated: ", file_.bytes(), " bytes, the header's length alone takes ", kPrefixBytes);
    }
    std::uint64_t length = 0;
    file_.read(0, std::as_writable_bytes(std::span(&length, 1)), "the header's length");
    if (length > kMaxHeaderBytes) reject("header length is ", length, "; allowed: at most ", kMaxHeaderBytes);
    if (length > file_.bytes() - kPrefixBytes) {
      reject("truncated: header length is ", length, " but the file has ", file_.bytes(), " bytes");
    }
    std::string text(static_cast<std::size_t>(length), ' ');
    file_.read(kPrefixBytes, std::as_writable_bytes(std::span(text)), "the header");
    return text;
  }

  Json parse_header() {
    const std::string text = header_text();
    header_.end = kPrefixBytes + text.size();
    std::set<std::string> names;
    const auto guard = [&](int depth, Json::parse_event_t event, Json& parsed) {
      constexpr int kMaxDepth = 4;  // object, tensor, shape, element
      if (depth > kMaxDepth) reject("header is nested deeper than ", kMaxDepth, " levels");
      if (event == Json::parse_event_t::key && depth == 1 && !names.insert(parsed.get<std::string>()).second) {
        reject("header names tensor '", parsed.get<std::string>(), "' twice");
      }
      return true;
    };
    Json json = Json::parse(text.begin(), text.end(), guard, /*allow_exceptions=*/false);
    if (!json.is_object()) reject("header is not a JSON object");
    return json;
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
    if (offsets.size() != 2 || offsets[0] > offsets[1]) {
      reject("tensor '", name, "' has data_offsets ", text_of(offsets), "; allowed: [begin, end] with begin <= end");
    }
    const auto needed = dense_bytes(tensor.shape, tensor.dtype);
    if (!needed) reject("tensor '", name, "' has shape ", text_of(tensor.shape), ", more bytes than 64 bits can count");
    if (*needed != offsets[1] - offsets[0]) {
      reject("tensor '", name, "' has ", offsets[1] - offsets[0], " bytes of data; its shape ", text_of(tensor.shape),
             " and dtype ", name_in_file(tensor.dtype), " need ", *needed);
    }
    header_.extents.push_back({offsets[0], offsets[1], name});
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
    std::sort(header_.extents.begin(), header_.extents.end(), [](const Extent& a, const Extent& b) {
      return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    std::int64_t covered = 0;
    for (const Extent& extent : header_.extents) {
      if (extent.begin != covered) {
        reject("tensor '", extent.name, "' begins at byte ", extent.begin,
               extent.begin < covered ? " and overlaps" : "", "; allowed: ", covered,
               ", where the tensor before it ends");
      }
      covered = extent.end;
    }
  }

  /// Of a header that holds together: what does not fit it is the file.
  void check_length() const {
    const auto there = static_cast<std::int64_t>(file_.bytes() - header_.end);
    const std::int64_t wanted = header_.extents.empty() ? 0 : header_.extents.back().end;
    if (wanted < there) reject(there, " bytes follow the header, the tensors need ", wanted);
    for (const Extent& extent : header_.extents) {
      if (extent.end <= there) continue;
      reject("truncated: the file is shorter than its header says, which describes ", wanted, " bytes of data; ", there,
             " are there. Tensor '", extent.name, "' takes ", extent.bytes(), " bytes, of which ",
             std::max(there - extent.begin, std::int64_t{0}), " are there");
    }
  }

  std::string path_;
  const InputFile& file_;
  Header header_;
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
  const InputFile input(path);
  Header header = HeaderReader(path.string(), input).read();
  SafetensorsFile file;
  file.path_ = path;
  file.tensors_ = std::move(header.tensors);
  for (const Extent& extent : header.extents) {
    const auto bytes = static_cast<std::size_t>(extent.bytes());
    // Memory of its own for each: the format lets data begin anywhere, and elements must be aligned.
    file.data_.push_back(std::make_unique_for_overwrite<std::byte[]>(bytes));
    input.read(header.end + static_cast<std::size_t>(extent.begin), {file.data_.back().get(), bytes},
               concat("tensor '", extent.name, "'"));
    file.tensors_.at(extent.name).data = file.data_.back().get();
  }
  return file;
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
