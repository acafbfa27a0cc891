"""A stand-in for Qualcomm's SDK: its layout, and its programs, which take the arguments that the documented ones take.

They really make something: the converters put the grids of `--quantization_overrides` back into the float graph
(`fake_converter`); the generator compiles that graph by the compiler which is in onnxruntime-qnn. FAKE_SDK says what is
wrong: "" nothing, or one of the words below.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

HOST = "x86_64-linux-clang"
LIBRARIES = ("libQnnHtp.so", "libQnnHtpNetRunExtensions.so", "libQnnModelDlc.so")

COMMON = f"""#!{sys.executable}
import argparse, json, os, sys, time
from pathlib import Path

trouble = os.environ.get("FAKE_SDK", "")
root = Path(os.environ["QNN_SDK_ROOT"])
assert os.environ["PYTHONPATH"] == str(root / "lib" / "python")
assert os.environ["LD_LIBRARY_PATH"].startswith(str(root / "lib" / "{HOST}"))

def fail(said):
    print(said, file=sys.stderr)
    raise SystemExit(1)

def there(name):
    if not Path(name).is_file():
        fail(f"ERROR - No such file: {{name}}")
    return Path(name)
"""

QAIRT = (
    COMMON
    + """
from fake_converter import convert
parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("--input_network", "-i", required=True)
parser.add_argument("--output_path", "-o", required=True)
parser.add_argument("--source_model_input_shape", "-s", nargs=2, action="append", default=[])
parser.add_argument("--preserve_io_datatype", nargs="*", default=[])
parser.add_argument("--quantization_overrides", "-q")
parser.add_argument("--float_bitwidth", type=int, choices=[16, 32], default=32)
parser.add_argument("--onnx_skip_simplification", action="store_true")
args = parser.parse_args()
grids, exact = args.quantization_overrides, args.preserve_io_datatype
Path(args.output_path).write_bytes(convert(args.input_network, grids, args.source_model_input_shape, exact))
"""
)

QNN = (
    COMMON
    + """
from fake_converter import convert
parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("--input_network", "-i", required=True)
parser.add_argument("--output_path", "-o", required=True)
parser.add_argument("--input_dim", "-d", nargs=2, action="append", default=[])
parser.add_argument("--preserve_io", nargs="*", action="append", default=[])
parser.add_argument("--quantization_overrides")
parser.add_argument("--float_bitwidth", type=int, choices=[16, 32], default=32)
parser.add_argument("--float_fallback", action="store_true")
args = parser.parse_args()
if args.quantization_overrides and not args.float_fallback:
    fail("ERROR - quantization needs --input_list, or --float_fallback")
kept = {words[0]: words[1:] for words in args.preserve_io}
if set(kept) - {"layout", "datatype"}:
    fail("ERROR - --preserve_io takes layout or datatype")
output = Path(args.output_path)
grids, exact = args.quantization_overrides, kept.get("datatype", [])
output.with_suffix(".bin").write_bytes(convert(args.input_network, grids, args.input_dim, exact))
output.write_text("// " + output.stem)
"""
)

LIBRARY = (
    COMMON
    + """
parser = argparse.ArgumentParser(allow_abbrev=False)
for name in "cbolt":
    parser.add_argument("-" + name)
args = parser.parse_args()
folder = Path(args.o) / args.t
folder.mkdir(parents=True)
name = there(args.c).read_text()[3:]
(folder / f"lib{args.l or name}.so").write_bytes(there(args.b).read_bytes())
"""
)

GENERATOR = (
    COMMON
    + """
parser = argparse.ArgumentParser(allow_abbrev=False)
for name in ("backend", "model", "dlc_path", "binary_file", "output_dir", "config_file", "log_level"):
    parser.add_argument("--" + name)
args = parser.parse_args()
if there(args.backend).name != "libQnnHtp.so":
    fail("ERROR - Failed to load backend")
there(args.model)
if (Path(args.model).name == "libQnnModelDlc.so") != bool(args.dlc_path):
    fail("ERROR - a DLC needs libQnnModelDlc.so, and nothing else does")
extensions = json.loads(there(args.config_file).read_text())["backend_extensions"]
there(extensions["shared_library_path"])
settings = json.loads(there(extensions["config_file_path"]).read_text())
[device], [graph] = settings["devices"], settings["graphs"]
source = there(args.dlc_path or args.model)
name = source.stem if args.dlc_path else source.stem.removeprefix("lib")
if graph["graph_names"] != [name] or graph["vtcm_mb"] != 8 or graph["O"] not in (1, 2, 3):
    fail(f"ERROR - unknown graph {graph}")
if trouble == "crash":
    os.abort()
import onnxruntime, onnxruntime_qnn as qnn
onnxruntime.register_execution_provider_library("QNN", qnn.get_library_path())
settings = onnxruntime.SessionOptions()
settings.log_severity_level = 4
chip = {"soc_model": str(device["soc_id"]), "htp_arch": device["dsp_arch"][1:], "vtcm_mb": str(graph["vtcm_mb"])}
devices = [one for one in onnxruntime.get_ep_devices() if one.ep_name == "QNN"]
settings.add_provider_for_devices(devices, {"backend_path": qnn.get_qnn_htp_path(), "enable_htp_fp16_precision": "1", **chip})
made = Path(args.output_dir)
made.mkdir(parents=True)
entries = {"ep.context_enable": "1", "ep.context_embed_mode": "0", "ep.context_file_path": str(made / "w.onnx"),
           "session.disable_cpu_ep_fallback": "1"}
for key, value in entries.items():
    settings.add_session_config_entry(key, value)
onnxruntime.InferenceSession(source.read_bytes(), settings)
binary = made / f"{args.binary_file}.bin"
(made / "w_qnn.bin").rename(binary)
if trouble == "truncated":
    binary.write_bytes(binary.read_bytes()[:1000])
"""
)
PROGRAMS = {
    "qairt-converter": QAIRT,
    "qnn-onnx-converter": QNN,
    "qnn-model-lib-generator": LIBRARY,
    "qnn-context-binary-generator": GENERATOR,
}


@pytest.fixture
def sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that QNN_SDK_ROOT names."""
    root = tmp_path / "qairt" / "2.39.0.250926"
    for place in ("bin", "lib"):
        (root / place / HOST).mkdir(parents=True)
    (root / "sdk.yaml").write_text("product: QAIRT\nversion: 2.39.0\nbuild_id: 250926\n")
    for name, text in PROGRAMS.items():
        (root / "bin" / HOST / name).write_text(text)
        (root / "bin" / HOST / name).chmod(0o755)
    for name in LIBRARIES:
        (root / "lib" / HOST / name).touch()
    (root / "lib" / "python").mkdir()
    shutil.copy(Path(__file__).with_name("fake_converter.py"), root / "lib" / "python")
    monkeypatch.setenv("QNN_SDK_ROOT", str(root))
    return root
