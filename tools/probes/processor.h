#pragma once

#include <string>

namespace tandem::probes {

/// The processor as the system names it ("model name" of /proc/cpuinfo, or the implementer's numbers on Arm); empty
/// where it does not.
std::string processor_title();

/// A short name for a command line: "Intel(R) Xeon(R) Platinum 8480+" -> "xeon-8480+", "AMD EPYC 9654 96-Core
/// Processor" -> "epyc-9654"; the maker, its marks and what every processor is called are left out. A title without a
/// model number becomes a name as a whole: "intel-xeon-processor"; "host" for nothing.
std::string short_name(const std::string& title);

/// Release of the running kernel, as in "6.1.0-18-amd64".
std::string kernel_release();

}  // namespace tandem::probes
