#include "whisper.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <stdexcept>

#include "model_facts.h"

namespace whisper {
namespace {

constexpr const char* kProvider = "QNNExecutionProvider";
constexpr float kMasked = -60000.0f;  // added to the scores of cache rows that are not filled; within the range of fp16
enum { kMel, kEncoder, kDecoder, kPrefill };

bool starts_with(const std::string& text, const char* prefix) { return text.rfind(prefix, 0) == 0; }

size_t element_size(ONNXTensorElementDataType type) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
      return 1;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
      return 2;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
      return 4;
    default:
      throw std::runtime_error("a cache of a type that is not known here: " + std::to_string(type));
  }
}

size_t count(const std::vector<int64_t>& shape) {
  size_t product = 1;
  for (int64_t size : shape) product *= static_cast<size_t>(size);
  return product;
}

// With the settings that the model was built for, "key=value" in each line of session.txt.
Ort::SessionOptions on_cpu(const std::string& folder, int threads) {
  Ort::SessionOptions options;
  if (threads > 0) options.SetIntraOpNumThreads(threads);
  std::ifstream stream(folder + "/session.txt");
  for (std::string line; std::getline(stream, line);) {
    const size_t equals = line.find('=');
    options.AddConfigEntry(line.substr(0, equals).c_str(), line.substr(equals + 1).c_str());
  }
  return options;
}

std::vector<Ort::ConstEpDevice> npus(Ort::Env& env) {
  std::vector<Ort::ConstEpDevice> found;
  for (const Ort::ConstEpDevice& device : env.GetEpDevices()) {
    if (std::strcmp(device.EpName(), kProvider) == 0) found.push_back(device);
  }
  return found;
}

Ort::SessionOptions on_npu(Ort::Env& env, const Npu& npu, int threads) {
  if (npus(env).empty()) env.RegisterExecutionProviderLibrary(kProvider, npu.library);  // once for each process
  const std::vector<Ort::ConstEpDevice> devices = npus(env);
  if (devices.empty()) throw std::runtime_error("the QNN provider finds no NPU");
  Options given = npu.options;
  given.insert(facts::kProviderOptions.begin(), facts::kProviderOptions.end());
  Ort::SessionOptions options;
  if (threads > 0) options.SetIntraOpNumThreads(threads);
  options.AppendExecutionProvider_V2(env, devices, given);
  for (const auto& [key, value] : facts::kSessionEntries) options.AddConfigEntry(key.c_str(), value.c_str());
  return options;
}

// For each id a length of two bytes, the lower first, and so many bytes of text.
std::vector<std::string> read_words(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  const std::string table((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  std::vector<std::string> words;
  for (size_t at = 0; at + 2 <= table.size();) {
    const size_t length = static_cast<uint8_t>(table[at]) | static_cast<uint8_t>(table[at + 1]) << 8;
    words.push_back(table.substr(at + 2, length));
    at += 2 + length;
  }
  if (words.size() != static_cast<size_t>(facts::kVocabulary)) throw std::runtime_error(file + " is not whole");
  return words;
}

int64_t best(std::vector<float>& scores, bool first) {
  constexpr float never = -std::numeric_limits<float>::infinity();
  for (int64_t id : facts::kNever) scores[id] = never;
  if (first) {
    for (int64_t id : facts::kNeverFirst) scores[id] = never;
  }
  return std::max_element(scores.begin(), scores.end()) - scores.begin();
}

}  // namespace

Graph::Graph(Ort::Env& env, const std::string& file, const Ort::SessionOptions& options)
    : session_(env, file.c_str(), options), inputs_(session_.GetInputNames()), outputs_(session_.GetOutputNames()) {
  for (size_t index = 0; index < inputs_.size(); ++index) {
    const Ort::TypeInfo info = session_.GetInputTypeInfo(index);
    shapes_[inputs_[index]] = info.GetTensorTypeAndShapeInfo().GetShape();
    types_[inputs_[index]] = info.GetTensorTypeAndShapeInfo().GetElementType();
  }
}

std::vector<int64_t> Graph::shape(const std::string& input) const { return shapes_.at(input); }

std::vector<Ort::Value> Graph::run(const std::vector<Ort::Value>& values) {
  std::vector<const char*> in, out;
  for (const std::string& name : inputs_) in.push_back(name.c_str());
  for (const std::string& name : outputs_) out.push_back(name.c_str());
  return session_.Run(Ort::RunOptions{nullptr}, in.data(), values.data(), values.size(), out.data(), out.size());
}

// What the encoder gave, and the caches [1, heads, context, head] with the number of rows filled.
struct Whisper::State {
  std::vector<Ort::Value> encoded;
  std::map<std::string, std::vector<uint8_t>> past;
  int64_t filled = 0;
};

Whisper::Whisper(const std::string& folder, const Npu* npu, int threads)
    : env_(ORT_LOGGING_LEVEL_WARNING, "whisper"),
      memory_(Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault)),
      words_(read_words(folder + "/tokens.bin")) {
  const Ort::SessionOptions cpu = on_cpu(folder, threads);
  const Ort::SessionOptions other = npu == nullptr ? on_cpu(folder, threads) : on_npu(env_, *npu, threads);
  graphs_.emplace_back(env_, folder + "/mel.onnx", cpu);
  for (const char* name : {"encoder", "decoder", "prefill"}) {
    const std::string file = folder + "/" + name + ".onnx";
    if (graphs_.size() == kPrefill && !std::ifstream(file)) break;  // a model may do without it
    graphs_.emplace_back(env_, file, other);
  }
}

Whisper::State Whisper::encode(std::vector<float>& samples) {
  samples.resize(std::clamp<size_t>(samples.size(), 1, facts::kWindowSamples));
  const int64_t shape[] = {1, static_cast<int64_t>(samples.size())};
  std::vector<Ort::Value> audio;
  audio.push_back(Ort::Value::CreateTensor<float>(memory_, samples.data(), samples.size(), shape, 2));
  State state;
  state.encoded = graphs_[kEncoder].run(graphs_[kMel].run(audio));
  for (const std::string& name : graphs_[kDecoder].inputs()) {
    if (starts_with(name, "past_")) {
      const size_t bytes = count(graphs_[kDecoder].shape(name)) * element_size(graphs_[kDecoder].type(name));
      state.past[name].assign(bytes, 0);
    }
  }
  return state;
}

std::vector<float> Whisper::feed(const std::vector<int64_t>& tokens, State& state) {
  if (tokens.size() > 1 && graphs_.size() == kPrefill) {  // the prompt goes through the graph of one token
    std::vector<float> scores;
    for (int64_t token : tokens) scores = feed({token}, state);
    return scores;
  }
  Graph& graph = graphs_[tokens.size() == 1 ? kDecoder : kPrefill];
  const int64_t size = graph.shape("tokens")[1], given = static_cast<int64_t>(tokens.size());
  if (given > size) throw std::runtime_error("a prompt of more tokens than the graph takes");
  const int64_t context = graph.shape("cache_mask")[3];
  std::vector<int64_t> padded(size, 0), position(size);
  std::copy(tokens.begin(), tokens.end(), padded.begin());
  for (int64_t index = 0; index < size; ++index) position[index] = std::min(state.filled + index, context - 1);
  std::vector<float> mask(context, kMasked);
  std::fill_n(mask.begin(), state.filled, 0.0f);

  std::vector<Ort::Value> values;
  for (const std::string& name : graph.inputs()) {
    const std::vector<int64_t> shape = graph.shape(name);
    if (name == "tokens" || name == "position") {
      std::vector<int64_t>& ids = name == "tokens" ? padded : position;
      values.push_back(Ort::Value::CreateTensor<int64_t>(memory_, ids.data(), ids.size(), shape.data(), shape.size()));
    } else if (name == "cache_mask") {
      values.push_back(Ort::Value::CreateTensor<float>(memory_, mask.data(), mask.size(), shape.data(), shape.size()));
    } else if (starts_with(name, "past_")) {
      std::vector<uint8_t>& cache = state.past.at(name);
      values.push_back(Ort::Value::CreateTensor(memory_, cache.data(), cache.size(), shape.data(), shape.size(),
                                                graph.type(name)));
    } else {  // cross_key_<i>, cross_value_<i>: outputs of the encoder, by the same name
      const std::vector<std::string>& names = graphs_[kEncoder].outputs();
      const size_t place = std::find(names.begin(), names.end(), name) - names.begin();
      Ort::Value& cross = state.encoded.at(place);
      const size_t bytes = count(shape) * element_size(graph.type(name));
      values.push_back(Ort::Value::CreateTensor(memory_, cross.GetTensorMutableRawData(), bytes, shape.data(),
                                                shape.size(), graph.type(name)));
    }
  }

  const std::vector<Ort::Value> found = graph.run(values);
  std::vector<float> scores;
  for (size_t index = 0; index < found.size(); ++index) {
    const std::string& name = graph.outputs()[index];
    if (name == "logits") {
      const float* last = found[index].GetTensorData<float>() + (given - 1) * facts::kVocabulary;
      scores.assign(last, last + facts::kVocabulary);
    } else {  // new_key_<i>, new_value_<i>: rows that go into the caches
      const std::string cache = "past_" + name.substr(4);
      const std::vector<int64_t> shape = graph.shape(cache);
      const size_t row = shape[3] * element_size(graph.type(cache));
      const uint8_t* rows = static_cast<const uint8_t*>(found[index].GetTensorRawData());
      for (int64_t head = 0; head < shape[1]; ++head) {
        std::memcpy(state.past.at(cache).data() + (head * context + state.filled) * row, rows + head * size * row,
                    given * row);
      }
    }
  }
  state.filled += given;
  return scores;
}

std::vector<int64_t> Whisper::tokens(std::vector<float> samples, std::string language, bool translate) {
  State state = encode(samples);
  std::vector<int64_t> prompt = {facts::kStart};
  if (!facts::kLanguages.empty()) {
    if (language.empty()) {
      const std::vector<float> scores = feed(prompt, state);
      language = std::max_element(facts::kLanguages.begin(), facts::kLanguages.end(),
                                  [&](const auto& one, const auto& other) {
                                    return scores[one.second] < scores[other.second];
                                  })->first;
      state.filled = 0;  // the prompt follows whole; rows beyond what is filled are masked
    }
    const auto spoken = std::find_if(facts::kLanguages.begin(), facts::kLanguages.end(),
                                     [&](const auto& one) { return one.first == language; });
    if (spoken == facts::kLanguages.end()) throw std::runtime_error("this model knows no language '" + language + "'");
    prompt.insert(prompt.end(), {spoken->second, translate ? facts::kTranslate : facts::kTranscribe});
  } else if (translate) {
    throw std::runtime_error("this model transcribes only");
  }
  prompt.push_back(facts::kNoTimestamps);

  std::vector<int64_t> said;
  std::vector<float> scores = feed(prompt, state);
  for (int64_t left = facts::kLimit - static_cast<int64_t>(prompt.size()); left > 0; --left) {
    const int64_t next = best(scores, said.empty());
    if (next == facts::kEnd) break;
    said.push_back(next);
    if (left > 1) scores = feed({next}, state);
  }
  return said;
}

std::string Whisper::text(const std::vector<int64_t>& tokens) const {
  std::string said;
  for (int64_t token : tokens) said += words_.at(token);
  const size_t begin = said.find_first_not_of(' '), end = said.find_last_not_of(' ');
  return begin == std::string::npos ? "" : said.substr(begin, end - begin + 1);
}

}  // namespace whisper
