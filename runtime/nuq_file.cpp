#include "runtime/nuq_file.h"

#include <algorithm>
#include <bit>
#include <fstream>
#include <sstream>

#include "runtime/json_fields.h"

namespace tandem {
namespace {

using cpu::NuqCalibration;
using cpu::NuqLayer;
using cpu::NuqShape;
using nlohmann::json;

constexpr const char* kFormat = "tandem-nuq";
constexpr std::uintmax_t kMostBytes = std::uintmax_t{1} << 30;

/// FNV-1a, 64 bits, over numbers as 8 bytes each, lowest first. Source: Fowler, Noll & Vo.
class Fnv {
 public:
  void add(std::uint64_t number) {
    for (int byte = 0; byte < 8; ++byte, number >>= 8) value_ = (value_ ^ (number & 0xff)) * 0x100000001b3u;
  }
  void add(double number) { add(std::bit_cast<std::uint64_t>(number)); }
  void add(std::int32_t number) { add(static_cast<std::uint64_t>(number)); }
  void add(const std::vector<float>& numbers) {
    add(static_cast<std::uint64_t>(numbers.size()));
    for (const float x : numbers) add(static_cast<double>(x));
  }
  [[nodiscard]] std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325u;
};

std::string hexadecimal(std::uint64_t value) {
  std::string text(16, '0');
  for (auto digit = text.rbegin(); digit != text.rend(); ++digit, value >>= 4) *digit = "0123456789abcdef"[value & 15];
  return text;
}

/// A field that must be there.
const json& required(Fields& fields, const std::string& path, const char* name) {
  const json* field = fields.find(name);
  TANDEM_CHECK(field != nullptr, io, path, ".", name, " is missing");
  return *field;
}
template <typename T>
void read_required(Fields& fields, const std::string& path, const char* name, T& value) {
  required(fields, path, name);
  fields.read(name, value);
}

/// `count` numbers.
std::vector<float> numbers_of(const json& list, const std::string& name, std::size_t count) {
  TANDEM_CHECK(list.is_array() && list.size() == count, io, name, " is ",
               list.is_array() ? concat("a list of ", list.size()) : std::string(list.type_name()),
               "; expected: ", count, " numbers");
  std::vector<float> numbers;
  numbers.reserve(count);
  for (const json& number : list) {
    TANDEM_CHECK(number.is_number(), io, name, "[", numbers.size(), "] is ", number.dump(), "; expected: a number");
    numbers.push_back(number.get<float>());
  }
  return numbers;
}

std::vector<std::int32_t> bits_of(const json& list, const std::string& name) {
  std::vector<std::int32_t> bits;
  TANDEM_CHECK(list.is_array(), io, name, " is ", list.type_name(), "; expected: a list");
  for (const json& entry : list) {
    const bool fits = entry.is_number_integer() && entry >= cpu::kLeastNuqBits && entry <= cpu::kMostNuqBits;
    TANDEM_CHECK(fits, io, name, " has ", entry.dump(), "; expected: ", cpu::kLeastNuqBits, " to ", cpu::kMostNuqBits);
    bits.push_back(entry.get<std::int32_t>());
  }
  return bits;
}

void read_levels(const json& lists, const std::string& name, const std::vector<std::int32_t>& bits,
                 decltype(NuqLayer::levels_k)& levels) {
  TANDEM_CHECK(lists.is_array() && lists.size() == bits.size(), io, name, " is ",
               lists.is_array() ? concat("a list of ", lists.size()) : std::string(lists.type_name()),
               "; expected: ", bits.size(), " lists, one for each of bits");
  for (std::size_t i = 0; i < bits.size(); ++i) {
    levels.at(NuqLayer::index(bits[i])) = numbers_of(lists[i], concat(name, "[", i, "]"), std::size_t{1} << bits[i]);
  }
}

NuqLayer layer_from(const json& object, const std::string& name, const NuqShape& shape,
                    const std::vector<std::int32_t>& bits) {
  Fields fields(object, name);
  NuqLayer layer;
  const auto channels = static_cast<std::size_t>(shape.num_kv_heads) * static_cast<std::size_t>(shape.head_dim_k);
  const auto offset = numbers_of(required(fields, name, "offset"), name + ".offset", channels);
  const auto scale = numbers_of(required(fields, name, "scale"), name + ".scale", channels);
  for (std::size_t c = 0; c < channels; ++c) layer.channels.push_back({offset[c], scale[c]});
  read_levels(required(fields, name, "levels_k"), name + ".levels_k", bits, layer.levels_k);
  read_levels(required(fields, name, "levels_v"), name + ".levels_v", bits, layer.levels_v);
  fields.reject_others();
  return layer;
}

/// format and version, before anything that another version may have otherwise.
void check_version(Fields& fields, const std::string& name) {
  std::string format;
  std::int32_t version = 0;
  read_required(fields, name, "format", format);
  TANDEM_CHECK(format == kFormat, io, name, ".format is '", format, "'; expected: '", kFormat, "'");
  read_required(fields, name, "version", version);
  TANDEM_CHECK(version == kNuqFileVersion, io, name, ".version is ", version, "; expected: ", kNuqFileVersion);
}

NuqShape shape_from(Fields& fields, const std::string& name) {
  NuqShape shape;
  read_required(fields, name, "num_layers", shape.num_layers);
  read_required(fields, name, "num_kv_heads", shape.num_kv_heads);
  read_required(fields, name, "head_dim_k", shape.head_dim_k);
  read_required(fields, name, "head_dim_v", shape.head_dim_v);
  read_required(fields, name, "rope_theta", shape.rope.theta);
  read_required(fields, name, "rope_dims", shape.rope.dims);
  read_required(fields, name, "rope_interleaved", shape.rope.interleaved);
  read_required(fields, name, "outliers", shape.outliers);
  return shape;
}

std::shared_ptr<const NuqCalibration> calibration_from(const json& object, const std::string& name) {
  Fields fields(object, name);
  check_version(fields, name);
  const NuqShape shape = shape_from(fields, name);
  const auto bits = bits_of(required(fields, name, "bits"), name + ".bits");
  const json& list = required(fields, name, "layers");
  TANDEM_CHECK(list.is_array(), io, name, ".layers is ", list.type_name(), "; expected: a list");
  std::vector<NuqLayer> layers;
  for (const json& entry : list)
    layers.push_back(layer_from(entry, concat(name, ".layers[", layers.size(), "]"), shape, bits));
  std::string checksum;
  read_required(fields, name, "checksum", checksum);
  fields.reject_others();
  auto calibration = std::make_shared<const NuqCalibration>(shape, std::move(layers));
  const std::string expected = hexadecimal(nuq_checksum(*calibration));
  TANDEM_CHECK(checksum == expected, io, name, ".checksum is '", checksum, "'; expected: '", expected,
               "', that of its values; the file is damaged");
  return calibration;
}

}  // namespace

std::uint64_t nuq_checksum(const NuqCalibration& calibration) {
  const NuqShape& shape = calibration.shape();
  Fnv fnv;
  for (const std::int32_t x : {kNuqFileVersion, shape.num_layers, shape.num_kv_heads, shape.head_dim_k,
                               shape.head_dim_v, shape.rope.dims, shape.rope.interleaved ? 1 : 0})
    fnv.add(x);
  fnv.add(shape.rope.theta);
  fnv.add(shape.outliers);
  for (const std::int32_t b : calibration.bits()) fnv.add(b);
  for (std::int32_t i = 0; i < shape.num_layers; ++i) {
    const NuqLayer& layer = calibration.layer(i);
    for (const auto& [offset, scale] : layer.channels) {
      fnv.add(static_cast<double>(offset));
      fnv.add(static_cast<double>(scale));
    }
    for (const std::int32_t b : calibration.bits()) {
      fnv.add(layer.of_k(b));
      fnv.add(layer.of_v(b));
    }
  }
  return fnv.value();
}

std::string nuq_to_json(const NuqCalibration& calibration) {
  const NuqShape& shape = calibration.shape();
  nlohmann::ordered_json object = {{"format", kFormat},
                                   {"version", kNuqFileVersion},
                                   {"num_layers", shape.num_layers},
                                   {"num_kv_heads", shape.num_kv_heads},
                                   {"head_dim_k", shape.head_dim_k},
                                   {"head_dim_v", shape.head_dim_v},
                                   {"rope_theta", shape.rope.theta},
                                   {"rope_dims", shape.rope.dims},
                                   {"rope_interleaved", shape.rope.interleaved},
                                   {"outliers", shape.outliers},
                                   {"bits", calibration.bits()},
                                   {"checksum", hexadecimal(nuq_checksum(calibration))},
                                   {"layers", nlohmann::ordered_json::array()}};
  for (std::int32_t i = 0; i < shape.num_layers; ++i) {
    const NuqLayer& layer = calibration.layer(i);
    nlohmann::ordered_json entry = {
        {"offset", json::array()}, {"scale", json::array()}, {"levels_k", json::array()}, {"levels_v", json::array()}};
    for (const auto& [offset, scale] : layer.channels) {
      entry["offset"].push_back(offset);
      entry["scale"].push_back(scale);
    }
    for (const std::int32_t b : calibration.bits()) {
      entry["levels_k"].push_back(layer.of_k(b));
      entry["levels_v"].push_back(layer.of_v(b));
    }
    object["layers"].push_back(std::move(entry));
  }
  return object.dump();
}

std::shared_ptr<const NuqCalibration> nuq_from_json(const std::string& text, const std::string& name) {
  const json object = json::parse(text, nullptr, false);
  TANDEM_CHECK(!object.is_discarded(), io, name, " is not JSON; expected: a calibration of codec nuq");
  try {
    return calibration_from(object, name);
  } catch (const Error& error) {
    const std::string message = error.what();
    fail(ErrorCode::io, message.starts_with(name) ? message : concat(name, ": ", message));
  }
}

std::shared_ptr<const NuqCalibration> read_nuq_file(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  TANDEM_CHECK(std::filesystem::exists(status), io, path.string(),
               " does not exist; expected: a calibration of codec nuq");
  TANDEM_CHECK(std::filesystem::is_regular_file(status), io, path.string(), " is not a regular file");
  const auto bytes = std::filesystem::file_size(path, error);
  TANDEM_CHECK(!error && bytes <= kMostBytes, io, path.string(), " has ", bytes, " bytes; allowed: up to ", kMostBytes);
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (bytes > 0) text << file.rdbuf();
  TANDEM_CHECK(file.good() && text.good(), io, path.string(), " cannot be read");
  return nuq_from_json(text.str(), path.string());
}

}  // namespace tandem
