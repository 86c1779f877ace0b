#include "runtime/base/timeline_file.h"

#include <algorithm>
#include <array>
#include <utility>

#include <unistd.h>

namespace tandem {
namespace {

/// In quotes. Control characters, which no name of ours has, become blanks.
std::string quoted(const std::string& text) {
  std::string json = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') json += '\\';
    json += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return json + '"';
}

/// Microseconds with all three decimals: what nests in nanoseconds nests in the file.
void write_us(std::ostream& file, std::chrono::nanoseconds time) {
  const auto ns = time.count();
  const auto fraction = static_cast<int>(ns % 1000);
  file << ns / 1000 << '.' << fraction / 100 << fraction / 10 % 10 << fraction % 10;
}

void write_subject(std::ostream& file, const SpanSubject& subject) {
  const std::array<std::pair<const char*, std::int64_t>, 7> args{{{"call", subject.call},
                                                                  {"sequence", subject.sequence},
                                                                  {"layer", subject.layer},
                                                                  {"kv_head", subject.kv_head},
                                                                  {"position", subject.position},
                                                                  {"rows", subject.rows},
                                                                  {"bytes", subject.bytes}}};
  const char* separator = "";
  for (const auto& [name, value] : args) {
    if (value < 0) continue;
    file << separator << '"' << name << "\":" << value;
    separator = ",";
  }
}

}  // namespace

void write_timeline(std::ostream& file, std::vector<TimelineTrack> tracks, Span::Clock::time_point started,
                    std::uint64_t dropped) {
  const auto pid = getpid();
  const auto metadata = [&](const char* name, std::size_t tid) -> std::ostream& {
    return file << R"({"ph":"M","pid":)" << pid << R"(,"tid":)" << tid << R"(,"name":")" << name << R"(","args":{)";
  };
  file << "[\n";
  metadata("process_name", 0) << R"("name":"tandem"}})";
  file << ",\n";
  metadata("tandem_timeline", 0) << R"("dropped_spans":)" << dropped << R"(,"start_ns":)"
                                 << std::chrono::nanoseconds(started.time_since_epoch()).count() << "}}";
  for (std::size_t t = 0; t < tracks.size(); ++t) {
    auto& [name, spans] = tracks[t];
    if (spans.empty()) continue;
    std::sort(spans.begin(), spans.end(),
              [](const Span& a, const Span& b) { return a.begin != b.begin ? a.begin < b.begin : a.end > b.end; });
    file << ",\n";
    metadata("thread_name", t + 1) << R"("name":)" << quoted(name) << "}}";
    for (const Span& span : spans) {
      file << ",\n"
           << R"({"ph":"X","pid":)" << pid << R"(,"tid":)" << t + 1 << R"(,"name":)" << quoted(span.name)
           << R"(,"ts":)";
      write_us(file, span.begin - started);
      file << R"(,"dur":)";
      write_us(file, span.end - span.begin);
      file << R"(,"args":{)";
      write_subject(file, span.subject);
      file << "}}";
    }
  }
  file << "\n]\n";
}

}  // namespace tandem
