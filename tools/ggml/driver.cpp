// Drives llama.cpp through its public header the ways that engines drive it: prompts, copies of sequences, shifted
// positions, restored states. Each scenario writes the logits of its steps, so that two runs, with and without the
// plugin, can be compared; it knows nothing of the plugin itself.
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "ggml-backend.h"
#include "llama.h"

namespace {

constexpr const char* kUsage =
    "Usage: ggml_driver MODEL.gguf SCENARIO TEXT OUT [FIELD=VALUE ..]\n"
    "  TEXT   file whose bytes are the tokens of the prompts\n"
    "  OUT    file for the logits, f32, one line of the vocabulary's size for each step\n"
    "Scenarios: plain, rewrite, clear, streams, unified, shift, copy_streams, copy_unified, state;\n"
    "  answer, restored_answer print what follows the text, speed prints tokens per second\n"
    "Fields and defaults: kv=f16 flash=on threads=2 prompt=600 steps=40 chunk=512, and for speed state=FILE, which\n"
    "  has the context, or gets it\n";

struct Usage : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A token of a sequence at a position.
struct Entry {
  llama_token token;
  llama_seq_id sequence;
  llama_pos position;
};

struct Options {
  ggml_type kv = GGML_TYPE_F16;
  llama_flash_attn_type flash = LLAMA_FLASH_ATTN_TYPE_ENABLED;  ///< disabled, with kv=f32: all of attention is in f32
  int threads = 2;
  int prompt = 600;  ///< tokens of a prompt; of the whole context in `speed`; not used by the answers
  int steps = 40;
  int chunk = 512;  ///< `speed`: tokens of each of the prompts that the context is made of
  std::string state;
};

ggml_type cache_type(const std::string& name) {
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0})
    if (name == ggml_type_name(type)) return type;
  throw Usage("kv=" + name + " is not allowed; allowed: f32, f16, bf16, q8_0, q4_0");
}

llama_flash_attn_type flash_type(const std::string& text) {
  if (text == "on") return LLAMA_FLASH_ATTN_TYPE_ENABLED;
  if (text == "off") return LLAMA_FLASH_ATTN_TYPE_DISABLED;
  throw Usage("flash=" + text + " is not allowed; allowed: on, off");
}

int positive(const std::string& field, const std::string& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1)
    throw Usage(field + "=" + text + " is not allowed; allowed: a whole number from 1 on");
  return value;
}

Options options_from(const std::vector<std::string>& fields) {
  Options options;
  const std::map<std::string, int*> numbers = {
      {"threads", &options.threads}, {"prompt", &options.prompt}, {"steps", &options.steps}, {"chunk", &options.chunk}};
  for (const std::string& field : fields) {
    const auto equals = std::min(field.find('='), field.size());
    const std::string name = field.substr(0, equals);
    const std::string value = field.substr(std::min(equals + 1, field.size()));
    if (name == "kv")
      options.kv = cache_type(value);
    else if (name == "flash")
      options.flash = flash_type(value);
    else if (name == "state")
      options.state = value;
    else if (const auto number = numbers.find(name); number != numbers.end())
      *number->second = positive(name, value);
    else
      throw Usage("'" + field + "' is not allowed; allowed: kv, flash, threads, prompt, steps, chunk or state = VALUE");
  }
  return options;
}

void show_errors(ggml_log_level level, const char* text, void* /*user*/) {
  if (level >= GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
}

class Driver {
 public:
  Driver(const std::string& model, const std::string& text, const std::string& out, const Options& options)
      : options_(options), out_(out, std::ios::binary), model_(load(model), &llama_model_free) {
    std::ifstream file(text, std::ios::binary);
    tokens_.push_back(llama_vocab_bos(llama_model_get_vocab(model_.get())));
    for (auto byte = std::istreambuf_iterator<char>(file); byte != std::istreambuf_iterator<char>(); ++byte)
      tokens_.push_back(static_cast<unsigned char>(*byte));
    if (tokens_.size() == 1) throw Usage(text + " cannot be read, or is empty");
    if (!out_) throw Usage(out + " cannot be written");
  }

  void open(int sequences, bool unified, int tokens) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = static_cast<std::uint32_t>(tokens);
    params.n_batch = 2048;
    params.n_ubatch = 512;
    params.n_threads = params.n_threads_batch = options_.threads;
    params.flash_attn_type = options_.flash;
    params.n_seq_max = static_cast<std::uint32_t>(sequences);
    params.kv_unified = unified;
    params.swa_full = false;  // as in llama.cpp's programs: layers with a sliding window use their cells again
    params.type_k = params.type_v = options_.kv;
    context_.reset(llama_init_from_model(model_.get(), params));
    if (!context_) throw std::runtime_error("llama_init_from_model failed");
    memory_ = llama_get_memory(context_.get());
  }

  /// BOS and the text, again and again.
  [[nodiscard]] llama_token token(int i) const { return tokens_[static_cast<std::size_t>(i) % tokens_.size()]; }
  [[nodiscard]] int text_tokens() const { return static_cast<int>(tokens_.size()); }

  /// Tokens of the text from `from` on, as those of a sequence from `position` on. The logits of the last are written.
  void prompt(llama_seq_id sequence, int from, int count, int position = 0) {
    for (int done = 0; done < count;) {
      std::vector<Entry> entries;
      for (; done < count && entries.size() < 2048; ++done)
        entries.push_back({token(from + done), sequence, position + done});
      decode(entries, done == count);
    }
  }

  /// Single tokens of each sequence in turn, all sequences in one batch.
  void steps(const std::vector<llama_seq_id>& sequences, int from, int position) {
    steps(sequences, from, position, options_.steps);
  }
  void steps(const std::vector<llama_seq_id>& sequences, int from, int position, int count) {
    for (int i = 0; i < count; ++i) {
      std::vector<Entry> entries;
      for (const llama_seq_id sequence : sequences)
        entries.push_back({token(from + 97 * sequence + i), sequence, position + i});
      decode(entries, true);
    }
  }

  /// The text's last tokens one by one, so that indexes learn from their queries, then the likeliest tokens.
  void answer(llama_seq_id sequence, int tail) {
    llama_token next = 0;
    for (int i = text_tokens() - tail; i < text_tokens(); ++i) next = decode({{token(i), sequence, i}}, true);
    for (int i = 0; i < options_.steps; ++i) {
      std::putchar(next);
      next = decode({{next, sequence, text_tokens() + i}}, true);
    }
    std::putchar('\n');
  }

  /// The state of one sequence, put in the place of another one's, as a server does with prompts that it has put aside.
  void move_state(llama_seq_id from, llama_seq_id to) {
    std::vector<std::uint8_t> state(llama_state_seq_get_size(context_.get(), from));
    llama_state_seq_get_data(context_.get(), state.data(), state.size(), from);
    llama_memory_clear(memory_, false);
    if (llama_state_seq_set_data(context_.get(), state.data(), state.size(), to) == 0)
      throw std::runtime_error("llama_state_seq_set_data failed");
  }

  /// Sequence 0 from a file, if there is one.
  [[nodiscard]] bool load_state() {
    if (options_.state.empty() || !std::ifstream(options_.state)) return false;
    std::size_t tokens = 0;
    llama_token none = 0;  // a null pointer would only ask for the number of tokens
    if (llama_state_seq_load_file(context_.get(), options_.state.c_str(), 0, &none, 1, &tokens) == 0)
      throw Usage(options_.state + " does not have the state of this model and context");
    return true;
  }
  void save_state() {
    if (!options_.state.empty() &&
        llama_state_seq_save_file(context_.get(), options_.state.c_str(), 0, nullptr, 0) == 0)
      throw Usage(options_.state + " cannot be written");
  }

  [[nodiscard]] llama_memory_t memory() const { return memory_; }
  [[nodiscard]] const Options& options() const { return options_; }

 private:
  static llama_model* load(const std::string& path) {
    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = 0;
    llama_model* model = llama_model_load_from_file(path.c_str(), params);
    if (model == nullptr) throw Usage(path + " cannot be loaded");
    return model;
  }

  /// Writes the logits of each sequence's last token when `write` is set. Returns the likeliest token of the last.
  llama_token decode(const std::vector<Entry>& entries, bool write) {
    const auto count = static_cast<int>(entries.size());
    llama_batch batch = llama_batch_init(count, 0, 1);
    batch.n_tokens = count;
    for (int i = 0; i < count; ++i) {
      const Entry& entry = entries[static_cast<std::size_t>(i)];
      batch.token[i] = entry.token;
      batch.pos[i] = entry.position;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = entry.sequence;
      batch.logits[i] = i + 1 == count || entries[static_cast<std::size_t>(i) + 1].sequence != entry.sequence;
    }
    const int status = llama_decode(context_.get(), batch);
    const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model_.get()));
    for (int i = 0; i < count && status == 0 && write; ++i)
      if (batch.logits[i] != 0)
        out_.write(reinterpret_cast<const char*>(llama_get_logits_ith(context_.get(), i)),
                   static_cast<std::streamsize>(sizeof(float)) * vocabulary);
    llama_batch_free(batch);
    if (status != 0) throw std::runtime_error("llama_decode returned " + std::to_string(status));
    const float* last = llama_get_logits_ith(context_.get(), -1);
    return static_cast<llama_token>(std::max_element(last, last + vocabulary) - last);
  }

  Options options_;
  std::vector<llama_token> tokens_;
  std::ofstream out_;
  std::unique_ptr<llama_model, decltype(&llama_model_free)> model_;
  std::unique_ptr<llama_context, decltype(&llama_free)> context_{nullptr, &llama_free};
  llama_memory_t memory_ = nullptr;
};

// ---- scenarios
// -------------------------------------------------------------------------------------------------------

void plain(Driver& d) {
  const int prompt = d.options().prompt;
  d.open(1, false, 2 * prompt + 1024);
  d.prompt(0, 0, prompt);
  d.steps({0}, prompt, prompt);
}

/// The end of a sequence is removed, and other tokens take its cells.
void rewrite(Driver& d) {
  const int prompt = d.options().prompt;
  plain(d);
  llama_memory_seq_rm(d.memory(), 0, prompt / 2, -1);
  d.prompt(0, 3 * prompt, prompt / 4, prompt / 2);
  d.steps({0}, 5 * prompt, prompt / 2 + prompt / 4);
}

/// A cache whose contents are forgotten but not erased gets another prompt.
void clear(Driver& d) {
  const int prompt = d.options().prompt;
  plain(d);
  llama_memory_clear(d.memory(), false);
  d.prompt(0, 3 * prompt, prompt * 2 / 3);
  d.steps({0}, 5 * prompt, prompt * 2 / 3);
}

void several(Driver& d, bool unified) {
  const int prompt = d.options().prompt;
  d.open(3, unified, 3 * (prompt + 1024));
  for (const llama_seq_id sequence : {0, 1, 2}) d.prompt(sequence, 1000 * sequence, prompt);
  d.steps({0, 1, 2}, prompt, prompt);
  d.steps({0, 2}, 2 * prompt, prompt + d.options().steps);
}

/// Part of the context is dropped and what follows moves down: K-shift rotates the keys in the cache.
void shift(Driver& d) {
  const int prompt = d.options().prompt;
  plain(d);
  llama_memory_seq_rm(d.memory(), 0, 4, 4 + prompt / 3);
  llama_memory_seq_add(d.memory(), 0, 4 + prompt / 3, -1, -(prompt / 3));
  d.steps({0}, 5 * prompt, prompt + d.options().steps - prompt / 3);
}

/// A sequence is copied when its cells have been attended to, and both go on, as beams do.
void copy(Driver& d, bool unified) {
  const int prompt = d.options().prompt;
  d.open(2, unified, 2 * (prompt + 1024));
  d.prompt(1, 1000, prompt / 2);
  d.steps({1}, 0, prompt / 2);
  llama_memory_seq_rm(d.memory(), 1, -1, -1);
  d.prompt(0, 0, prompt);
  llama_memory_seq_cp(d.memory(), 0, 1, -1, -1);
  d.steps({1}, prompt, prompt);
  d.steps({0}, prompt, prompt);
}

/// A state is put into cells that hold, and have been indexed as, another prompt.
void state(Driver& d) {
  const int prompt = d.options().prompt;
  d.open(2, false, 2 * (prompt + 1024));
  d.prompt(1, 1000, prompt);
  d.steps({1}, 0, prompt);
  d.prompt(0, 0, prompt);
  d.move_state(0, 1);
  d.steps({1}, prompt, prompt);
}

/// A context that would take too long to read as one prompt: prompts of `chunk` tokens each, moved to follow each other
/// and put together into sequence 0.
void fill(Driver& d, int chunks) {
  const int chunk = d.options().chunk;
  for (llama_seq_id sequence = 0; sequence < chunks; ++sequence) d.prompt(sequence, sequence * 131, chunk);
  for (llama_seq_id sequence = 1; sequence < chunks; ++sequence) {
    llama_memory_seq_add(d.memory(), sequence, -1, -1, chunk * sequence);
    llama_memory_seq_cp(d.memory(), sequence, 0, -1, -1);
    llama_memory_seq_rm(d.memory(), sequence, -1, -1);
  }
  d.steps({0}, 0, chunks * chunk, 1);  // shifts the keys
  d.save_state();
}

/// Decode speed, when what is slow once (indexes) has been done.
void speed(Driver& d) {
  const int chunks = (d.options().prompt + d.options().chunk - 1) / d.options().chunk;
  const int tokens = chunks * d.options().chunk + 1;
  d.open(chunks, true, tokens + 2 * d.options().steps + 256);
  if (!d.load_state()) fill(d, chunks);
  d.steps({0}, 0, tokens);
  const auto begin = std::chrono::steady_clock::now();
  d.steps({0}, 777, tokens + d.options().steps);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  std::printf("%.3f\n", d.options().steps / seconds.count());
}

constexpr int kAnswerTail = 160;  // more than the query vectors that a sketch is calibrated on

void answer(Driver& d) {
  d.open(1, false, d.text_tokens() + d.options().steps + 256);
  d.prompt(0, 0, d.text_tokens() - kAnswerTail);
  d.answer(0, kAnswerTail);
}

/// As `state`, where what the index has learned of the cells would give another answer.
void restored_answer(Driver& d) {
  const int prompt = d.text_tokens() - kAnswerTail;
  d.open(2, false, 2 * (d.text_tokens() + d.options().steps + 256));
  d.prompt(1, prompt / 2, prompt);
  d.steps({1}, 0, prompt, kAnswerTail);
  d.prompt(0, 0, prompt);
  d.move_state(0, 1);
  d.answer(1, kAnswerTail);
}

const std::map<std::string_view, std::function<void(Driver&)>> kScenarios = {
    {"plain", plain},
    {"rewrite", rewrite},
    {"clear", clear},
    {"streams", [](Driver& d) { several(d, false); }},
    {"unified", [](Driver& d) { several(d, true); }},
    {"shift", shift},
    {"copy_streams", [](Driver& d) { copy(d, false); }},
    {"copy_unified", [](Driver& d) { copy(d, true); }},
    {"state", state},
    {"answer", answer},
    {"restored_answer", restored_answer},
    {"speed", speed},
};

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::vector<std::string> words(argv + 1, argv + argc);
    if (words.size() < 4) throw Usage("four arguments are needed");
    const auto scenario = kScenarios.find(words[1]);
    if (scenario == kScenarios.end()) throw Usage("'" + words[1] + "' is no scenario");
    const Options options = options_from({words.begin() + 4, words.end()});
    llama_log_set(&show_errors, nullptr);
    ggml_backend_load_all();  // and the plugin that GGML_BACKEND_PATH names
    Driver driver(words[0], words[2], words[3], options);
    scenario->second(driver);
    return 0;
  } catch (const Usage& error) {
    std::fprintf(stderr, "ggml_driver: %s\n%s", error.what(), kUsage);
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ggml_driver: %s\n", error.what());
    return 1;
  }
}
