"""How other people's software loads a bundle: the lines on its card, which docs/clients.md shows and a test runs."""

from __future__ import annotations

from dataclasses import dataclass

AUDIO = "recording.wav"


@dataclass(frozen=True)
class Client:
    """A program that loads a layout.

    Attributes:
        install: the command that gets it.
        language: of `lines`: "python" or "js".
        lines: transcribe `AUDIO`, started in the bundle's directory, and print the text.
        note: what is particular to it.
    """

    name: str
    install: str
    language: str
    lines: str
    note: str = ""


CLIENTS = {
    "optimum": Client(
        "Optimum",
        'pip install torch "optimum-onnx[onnxruntime]" soundfile',
        "python",
        f"""\
import soundfile
from optimum.onnxruntime import ORTModelForSpeechSeq2Seq
from transformers import WhisperProcessor

model, processor = ORTModelForSpeechSeq2Seq.from_pretrained("."), WhisperProcessor.from_pretrained(".")
audio, rate = soundfile.read("{AUDIO}", dtype="float32")  # 16 kHz, mono
features = processor(audio, sampling_rate=rate, return_tensors="pt").input_features
tokens = model.generate(features, language="en", task="transcribe")
print(processor.batch_decode(tokens, skip_special_tokens=True)[0])
""",
    ),
    "transformers_js": Client(
        "transformers.js",
        "npm install @huggingface/transformers",
        "js",
        f"""\
import {{ env, pipeline }} from "@huggingface/transformers";
import {{ readFileSync }} from "node:fs";

env.allowRemoteModels = false;
env.localModelPath = "/";
const transcribe = await pipeline("automatic-speech-recognition", process.cwd());
const pcm = readFileSync("{AUDIO}").subarray(44); // 16 kHz, mono, 16 bits, after the usual header
const audio = Float32Array.from({{ length: pcm.length / 2 }}, (_, i) => pcm.readInt16LE(2 * i) / 32768);
const {{ text }} = await transcribe(audio, {{ language: "en", task: "transcribe" }});
console.log(text);
""",
        "In a browser serve the directory and name its address.",
    ),
    "sherpa_onnx": Client(
        "sherpa-onnx",
        "pip install sherpa-onnx soundfile",
        "python",
        f"""\
import sherpa_onnx
import soundfile

recognizer = sherpa_onnx.OfflineRecognizer.from_whisper(
    encoder="encoder.onnx", decoder="decoder.onnx", tokens="tokens.txt", language="en", task="transcribe"
)
audio, rate = soundfile.read("{AUDIO}", dtype="float32")
stream = recognizer.create_stream()
stream.accept_waveform(rate, audio)
recognizer.decode_stream(stream)
print(stream.result.text)
""",
        "It decodes greedily, at most six tokens for each second of audio and 29.5 s at once.",
    ),
    "genai": Client(
        "onnxruntime-genai",
        "pip install onnxruntime-genai",
        "python",
        f"""\
import onnxruntime_genai as og

model = og.Model(".")
processor = model.create_multimodal_processor()
prompt = "<|startoftranscript|><|en|><|transcribe|><|notimestamps|>"
generator = og.Generator(model, og.GeneratorParams(model))
generator.set_inputs(processor([prompt], audios=og.Audios.open("{AUDIO}")))
while not generator.is_done():
    generator.generate_next_token()
print(processor.decode(generator.get_sequence(0)))
""",
        "An English-only model is prompted without language and task. The client takes 30 s at once and drops the rest;"
        " its features are not Whisper's in the frames where the audio ends.",
    ),
}
"""Layout -> its client."""
