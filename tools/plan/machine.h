#pragma once

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "lsh/cost_profile.h"
#include "tools/plan/figure.h"

namespace tandem::plan {

/// What is known of the processors of a machine. Bandwidths are of one NUMA node with all of its cores at work on
/// memory of their own, in 1e9 bytes per second, unless the name says core (one core alone) or remote (of another
/// node). Figures that nobody knows are absent.
struct Cpu {
  std::string name;   ///< short, as on a command line: "xeon-8480+"
  std::string title;  ///< as its maker calls it
  int nodes = 1;      ///< NUMA nodes with memory; sockets, where nothing else is known
  int cores = 1;      ///< usable ones, of one node

  std::optional<Figure> peak_gb_per_s;                                 ///< channels x transfers per second x 8 bytes
  std::optional<Figure> read_gb_per_s, copy_gb_per_s, triad_gb_per_s;  ///< sequential; bytes read and written, together
  std::optional<Figure> gather_256_gb_per_s, gather_512_gb_per_s;      ///< rows of so many bytes at random places
  std::optional<Figure> core_read_gb_per_s, core_gather_512_gb_per_s;
  std::optional<Figure> remote_read_gb_per_s;
  std::optional<Figure> latency_ns;             ///< of a load from memory that the address of the next one depends on
  std::optional<Figure> fma_gflop_per_s;        ///< fp32, of one node
  std::optional<Figure> memory_gb;              ///< of one node
  std::optional<Figure> power_w, usd_per_hour;  ///< of one node
};

/// What is known of one GPU.
struct Gpu {
  std::string name;   ///< "v100-32"
  std::string title;  ///< "NVIDIA V100 SXM2 32 GB"

  std::optional<Figure> memory_gb;
  std::optional<Figure> peak_gb_per_s;                         ///< of its memory, by its maker
  std::optional<Figure> read_gb_per_s, copy_gb_per_s;          ///< of its memory; a copy's bytes are read and written
  std::optional<Figure> fp16_tflop_per_s;                      ///< dense, tensor cores, fp32 sums
  std::optional<Figure> link_gb_per_s;                         ///< to the host, one way, by the standard
  std::optional<Figure> to_device_gb_per_s, to_host_gb_per_s;  ///< pinned host memory, large copies
  std::optional<Figure> pageable_to_device_gb_per_s, pageable_to_host_gb_per_s;  ///< the same, ordinary host memory
  std::optional<Figure> launch_us;                                               ///< host time of launching a kernel
  std::optional<Figure> hand_off_us;  ///< from the end of a kernel to the host's knowing of it
  std::optional<Figure> power_w, usd_per_hour;
};

/// A field of Cpu or Gpu by its name, which is also that of the JSON field, and what it may be: no machine lies
/// outside.
template <typename Part>
struct FigureField {
  const char* name;
  std::optional<Figure> Part::*figure;
  double least;
  double most;
  const char* unit;
};

inline constexpr std::array kCpuFigures = {
    FigureField<Cpu>{"peak_gb_per_s", &Cpu::peak_gb_per_s, 1, 5000, "GB/s"},
    FigureField<Cpu>{"read_gb_per_s", &Cpu::read_gb_per_s, 0.1, 5000, "GB/s"},
    FigureField<Cpu>{"copy_gb_per_s", &Cpu::copy_gb_per_s, 0.1, 5000, "GB/s"},
    FigureField<Cpu>{"triad_gb_per_s", &Cpu::triad_gb_per_s, 0.1, 5000, "GB/s"},
    FigureField<Cpu>{"gather_256_gb_per_s", &Cpu::gather_256_gb_per_s, 0.01, 5000, "GB/s"},
    FigureField<Cpu>{"gather_512_gb_per_s", &Cpu::gather_512_gb_per_s, 0.01, 5000, "GB/s"},
    FigureField<Cpu>{"core_read_gb_per_s", &Cpu::core_read_gb_per_s, 0.1, 1000, "GB/s"},
    FigureField<Cpu>{"core_gather_512_gb_per_s", &Cpu::core_gather_512_gb_per_s, 0.01, 1000, "GB/s"},
    FigureField<Cpu>{"remote_read_gb_per_s", &Cpu::remote_read_gb_per_s, 0.1, 5000, "GB/s"},
    FigureField<Cpu>{"latency_ns", &Cpu::latency_ns, 1, 100'000, "ns"},
    FigureField<Cpu>{"fma_gflop_per_s", &Cpu::fma_gflop_per_s, 0.1, 100'000, "GFLOP/s"},
    FigureField<Cpu>{"memory_gb", &Cpu::memory_gb, 0.1, 100'000, "GB"},
    FigureField<Cpu>{"power_w", &Cpu::power_w, 1, 10'000, "W"},
    FigureField<Cpu>{"usd_per_hour", &Cpu::usd_per_hour, 0, 10'000, "USD/h"},
};

inline constexpr std::array kGpuFigures = {
    FigureField<Gpu>{"memory_gb", &Gpu::memory_gb, 1, 10'000, "GB"},
    FigureField<Gpu>{"peak_gb_per_s", &Gpu::peak_gb_per_s, 1, 100'000, "GB/s"},
    FigureField<Gpu>{"read_gb_per_s", &Gpu::read_gb_per_s, 1, 100'000, "GB/s"},
    FigureField<Gpu>{"copy_gb_per_s", &Gpu::copy_gb_per_s, 1, 100'000, "GB/s"},
    FigureField<Gpu>{"fp16_tflop_per_s", &Gpu::fp16_tflop_per_s, 0.1, 100'000, "TFLOP/s"},
    FigureField<Gpu>{"link_gb_per_s", &Gpu::link_gb_per_s, 0.1, 2000, "GB/s"},
    FigureField<Gpu>{"to_device_gb_per_s", &Gpu::to_device_gb_per_s, 0.01, 2000, "GB/s"},
    FigureField<Gpu>{"to_host_gb_per_s", &Gpu::to_host_gb_per_s, 0.01, 2000, "GB/s"},
    FigureField<Gpu>{"pageable_to_device_gb_per_s", &Gpu::pageable_to_device_gb_per_s, 0.01, 2000, "GB/s"},
    FigureField<Gpu>{"pageable_to_host_gb_per_s", &Gpu::pageable_to_host_gb_per_s, 0.01, 2000, "GB/s"},
    FigureField<Gpu>{"launch_us", &Gpu::launch_us, 0.01, 1e6, "us"},
    FigureField<Gpu>{"hand_off_us", &Gpu::hand_off_us, 0.01, 1e6, "us"},
    FigureField<Gpu>{"power_w", &Gpu::power_w, 1, 10'000, "W"},
    FigureField<Gpu>{"usd_per_hour", &Gpu::usd_per_hour, 0, 10'000, "USD/h"},
};

/// A machine, or a part of one: a file of the library of parts describes one processor or one GPU, `tandem profile`
/// writes all that it found.
struct Machine {
  std::string name;
  std::string title;
  std::string date;  ///< of the measurement, ISO 8601; empty for parts
  std::optional<Cpu> cpu;
  std::vector<Gpu> gpus;
  std::optional<lsh::CostProfile> step_costs;  ///< what `td_config.profile` takes
  Json details = Json::object();               ///< of a measurement: everything that figures sum up; read by people
};

/// The version of the JSON of machines. Readers know no other.
inline constexpr int kMachineVersion = 1;

/// {"schema": "tandem-machine", "version": 1, "name", "title", "date", "cpu", "gpus", "step_costs", "details"}
Json to_json(const Machine& machine);

/// Reads what to_json writes. Throws Error(invalid_argument) naming the field with `origin` before it, its value and
/// what is allowed: another schema or version, fields that are missing or unknown, figures that no machine has.
Machine machine_from(const Json& object, const std::string& origin);

/// The same of a file; also Error(io) when it cannot be read.
Machine load_machine(const std::filesystem::path& path);

/// Two measurements of one machine, figure by figure (Figure's merged()); figures that only one has are kept. Details
/// and step costs are those of `later`. Throws Error(invalid_argument) when the two are not of the same machine: other
/// processor, cores, nodes or GPUs.
Machine merged(const Machine& earlier, const Machine& later);

}  // namespace tandem::plan
