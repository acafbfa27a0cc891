// Transcribes a WAV file (mono, 16 bits, of the model's sample rate), for a shell on the device and for tests:
//   whisper FOLDER WAV [LANGUAGE] [PROVIDER_LIBRARY [OPTION=VALUE ...]]
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>

#include "model_facts.h"
#include "whisper.h"

namespace {

template <typename Number>
Number number(const std::string& bytes, size_t at) {
  Number value;
  if (at + sizeof value > bytes.size()) throw std::runtime_error("the WAV file ends early");
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

std::vector<float> read_wav(const char* file) {
  std::ifstream stream(file, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  if (bytes.compare(0, 4, "RIFF") != 0) throw std::runtime_error(std::string(file) + " is no WAV file");
  for (size_t at = 12; at + 8 <= bytes.size();) {
    const size_t size = number<uint32_t>(bytes, at + 4);
    if (bytes.compare(at, 4, "fmt ") == 0) {
      const bool fits = number<uint16_t>(bytes, at + 10) == 1 && number<uint16_t>(bytes, at + 22) == 16 &&
                        number<uint32_t>(bytes, at + 12) == static_cast<uint32_t>(whisper::facts::kSampleRate);
      if (!fits) throw std::runtime_error("the audio is not mono, 16 bits, of the model's sample rate");
    } else if (bytes.compare(at, 4, "data") == 0) {
      std::vector<float> samples;
      for (size_t place = at + 8; place + 2 <= std::min(bytes.size(), at + 8 + size); place += 2) {
        samples.push_back(static_cast<float>(number<int16_t>(bytes, place)) / 32768.0f);
      }
      return samples;
    }
    at += 8 + size + size % 2;
  }
  throw std::runtime_error(std::string(file) + " holds no samples");
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::cerr << "usage: whisper FOLDER WAV [LANGUAGE] [PROVIDER_LIBRARY [OPTION=VALUE ...]]\n";
    return 2;
  }
  whisper::Npu npu;
  if (argc > 4) npu.library = argv[4];
  for (int index = 5; index < argc; ++index) {
    const std::string option = argv[index];
    npu.options[option.substr(0, option.find('='))] = option.substr(option.find('=') + 1);
  }
  whisper::Whisper model(argv[1], argc > 4 ? &npu : nullptr);
  const std::vector<int64_t> tokens = model.tokens(read_wav(argv[2]), argc > 3 ? argv[3] : "");
  for (int64_t token : tokens) std::cout << token << ' ';
  std::cout << '\n' << model.text(tokens) << '\n';
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
