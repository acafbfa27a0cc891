// Whisper with ONNX Runtime: graphs of fixed shapes on Qualcomm's NPU, or on the CPU; log-mel and the choice of tokens on
// the CPU. What differs from model to model is in model_facts.h. Needs ONNX Runtime 1.23 or later; C++17.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace whisper {

using Options = std::unordered_map<std::string, std::string>;

// The QNN provider: its library, e.g. libonnxruntime_providers_qnn.so, and options beyond those of model_facts.h.
struct Npu {
  std::string library;
  Options options;
};

// One graph and the names and types of its ports.
class Graph {
 public:
  Graph(Ort::Env& env, const std::string& file, const Ort::SessionOptions& options);

  std::vector<int64_t> shape(const std::string& input) const;
  const std::vector<std::string>& inputs() const { return inputs_; }
  const std::vector<std::string>& outputs() const { return outputs_; }
  ONNXTensorElementDataType type(const std::string& input) const { return types_.at(input); }
  // Outputs in the order of `outputs()`, of inputs in the order of `inputs()`.
  std::vector<Ort::Value> run(const std::vector<Ort::Value>& values);

 private:
  Ort::Session session_;
  std::vector<std::string> inputs_, outputs_;
  std::map<std::string, std::vector<int64_t>> shapes_;
  std::map<std::string, ONNXTensorElementDataType> types_;
};

class Whisper {
 public:
  // The model in `folder`; on the CPU where `npu` is null. Throws Ort::Exception or std::runtime_error.
  explicit Whisper(const std::string& folder, const Npu* npu = nullptr, int threads = 0);

  // Ids of what was said in `samples` (mono, of facts::kSampleRate, as much of them as one window holds), without prompt
  // and end. `language` is a code such as "de"; empty: it is detected.
  std::vector<int64_t> tokens(std::vector<float> samples, std::string language = "", bool translate = false);

  // UTF-8; without special tokens, and without the space in front.
  std::string text(const std::vector<int64_t>& tokens) const;

 private:
  struct State;

  State encode(std::vector<float>& samples);
  // Feeds tokens after those of `state`; the scores of what follows the last one, [vocabulary].
  std::vector<float> feed(const std::vector<int64_t>& tokens, State& state);

  Ort::Env env_;
  Ort::MemoryInfo memory_;
  std::vector<Graph> graphs_;  // mel, encoder, decoder, and prefill where there is one
  std::vector<std::string> words_;
};

}  // namespace whisper
