#include "tools/plan/gpu_bench.h"

#include <algorithm>
#include <cctype>

#include "runtime/base/error.h"

namespace tandem::plan {
namespace {

constexpr double kMost = 1e15;  // of any of its numbers; machine_from() knows what each may be

const Json& member(const Json& object, const std::string& name, const std::string& origin) {
  const auto found = object.find(name);
  TANDEM_CHECK(object.is_object() && found != object.end(), invalid_argument, origin, ".", name, " is missing");
  return *found;
}

bool is(const Json& object, const std::string& name, const Json& value) {
  const auto found = object.find(name);
  return object.is_object() && found != object.end() && *found == value;
}

double number(const Json& object, const std::string& name, const std::string& origin) {
  const Json& field = member(object, name, origin);
  const double value = field.is_number() ? field.get<double>() : -1;
  TANDEM_CHECK(value > 0 && value <= kMost, invalid_argument, origin, ".", name, " is ", field.dump(),
               "; allowed: a positive number up to ", kMost);
  return value;
}

/// Of a distribution as gpu_bench writes them.
Figure spread(const Json& object, const std::string& name, const std::string& origin, const char* source) {
  const Json& values = member(object, name, origin);
  const std::string path = origin + "." + name;
  return {number(values, "median", path), number(values, "p25", path), number(values, "p75", path),
          FigureKind::measured, source};
}

/// The last and largest of a list of copies.
Figure largest_copy(const Json& bandwidth, const std::string& name, const std::string& origin) {
  const Json& sizes = member(bandwidth, name, origin);
  TANDEM_CHECK(sizes.is_array() && !sizes.empty(), invalid_argument, origin, ".", name,
               " is empty; it must list copies by size");
  const char* source = name.starts_with("pageable") ? "copies of ordinary host memory, the largest"
                                                    : "copies of pinned host memory, the largest";
  return spread(sizes.back(), "gb_per_s", origin + "." + name, source);
}

/// "NVIDIA A100-SXM4-40GB" -> "nvidia-a100-sxm4-40gb"
std::string short_name(std::string title) {
  for (char& c : title)
    c = std::isalnum(static_cast<unsigned char>(c)) != 0
            ? static_cast<char>(std::tolower(static_cast<unsigned char>(c)))
            : '-';
  return title;
}

}  // namespace

Gpu gpu_from_measurement(const Json& result, const std::string& origin) {
  TANDEM_CHECK(is(result, "emulated", false), invalid_argument, origin,
               ".emulated is not false; allowed: a result of a GPU, since times of the emulator mean nothing");
  const Json& device = member(result, "device", origin);
  const Json& name = member(device, "name", origin + ".device");
  TANDEM_CHECK(name.is_string(), invalid_argument, origin, ".device.name is ", name.dump(), "; it must be a string");
  Gpu gpu;
  gpu.title = name.get<std::string>();
  gpu.name = short_name(gpu.title);
  const double gb = number(device, "memory_bytes", origin + ".device") / 1e9;
  gpu.memory_gb = Figure{gb, gb, gb, FigureKind::measured, "as the driver says"};
  const Json& bandwidth = member(result, "bandwidth", origin);
  const std::string path = origin + ".bandwidth";
  gpu.read_gb_per_s = spread(member(bandwidth, "read", path), "gb_per_s", path + ".read", "a kernel that reads");
  gpu.copy_gb_per_s = spread(member(bandwidth, "copy", path), "gb_per_s", path + ".copy",
                             "copies within the device, bytes read and written");
  gpu.to_device_gb_per_s = largest_copy(bandwidth, "to_device", path);
  gpu.to_host_gb_per_s = largest_copy(bandwidth, "to_host", path);
  if (bandwidth.contains("pageable_to_device")) {  // older results have none
    gpu.pageable_to_device_gb_per_s = largest_copy(bandwidth, "pageable_to_device", path);
    gpu.pageable_to_host_gb_per_s = largest_copy(bandwidth, "pageable_to_host", path);
  }
  gpu.launch_us = spread(member(result, "launches", origin), "call_us", origin + ".launches",
                         "host time of launching an empty kernel");
  for (const Json& trip : member(result, "hand_offs", origin)) {
    if (is(trip, "became", "flag") && is(trip, "kernel", true))
      gpu.hand_off_us = spread(trip, "us", origin + ".hand_offs", "round trip by flag, after an empty kernel");
  }
  return gpu;
}

Gpu gpu_from_bench(const Json& result, const std::string& origin) {
  TANDEM_CHECK(is(result, "benchmark", "gpu_bench"), invalid_argument, origin,
               ".benchmark is not gpu_bench; allowed: what gpu_bench --json wrote");
  return gpu_from_measurement(result, origin);
}

}  // namespace tandem::plan
