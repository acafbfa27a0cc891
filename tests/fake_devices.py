"""Stand-ins for `adb` and `ssh` on the PATH, which behave as documented and run what they are told on this machine.

FAKE_DEVICE says what is wrong: "" nothing, or one of the words below. What a device holds lies in FAKE_ROOT.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

COMMON = f"""#!{sys.executable}
import os, subprocess, sys
trouble, root = os.environ["FAKE_DEVICE"], os.environ["FAKE_ROOT"]
def fail(said, code):
    print(said, file=sys.stderr)
    raise SystemExit(code)
def shell(command):
    if trouble == "greets":
        print("Welcome to pi", flush=True)
    if trouble == "full" and command.startswith("df"):
        print("Filesystem 1K-blocks Used Available Use% Mounted on")
        print("/dev/block/dm-9 1000000 999000 1000 99% /data")
        raise SystemExit(0)
    if trouble == "no_python" and "import" in command:
        fail("sh: python3: inaccessible or not found", 127)
    if trouble == "talks" and "run.py" in command:
        print("warning: low battery")
        raise SystemExit(0)
    if trouble == "hangs" and "run.py" in command:
        import time
        time.sleep(60)
    if trouble == "lost" and "run.py" in command:
        lost()
    raise SystemExit(subprocess.run(["sh", "-c", command], env={{**os.environ, "TMPDIR": root}}).returncode)
"""

ADB = (
    COMMON
    + """
def lost():
    fail("error: closed", 1)
states = {"unauthorized": "unauthorized", "offline": "offline"}
words = sys.argv[1:]
if words == ["devices"]:
    print("List of devices attached")
    if trouble != "missing":
        print("R5CT" + chr(9) + states.get(trouble, "device"))
    if trouble == "two":
        print("emulator-5554" + chr(9) + "device")
    raise SystemExit(0)
assert words[:2] == ["-s", "R5CT"], words
if words[2] == "push":
    if trouble == "broken":
        fail("adb: error: failed to copy 'x' to 'y': remote write failed: Broken pipe", 1)
    if trouble == "fills":
        fail("adb: error: failed to copy 'x' to 'y': remote No space left on device", 1)
    raise SystemExit(subprocess.run(["cp", "-rL", *words[3:]]).returncode)
assert words[2] == "shell" and len(words) == 4, words
if words[3].startswith("getprop"):
    told = {"ro.product.manufacturer": "samsung", "ro.product.model": "SM-S931B", "ro.soc.model": "SM8750"}
    print(told.get(words[3].split()[1], "samsung/pa1q/15/AP3A"))
    raise SystemExit(0)
shell(words[3].replace("/data/local/tmp", root))
"""
)

SSH = (
    COMMON
    + """
def lost():
    fail("client_loop: send disconnect: Broken pipe", 255)
refusals = {
    "missing": "ssh: Could not resolve hostname pi: Name or service not known",
    "refused": "ssh: connect to host pi port 22: Connection refused",
    "denied": "pi@pi: Permission denied (publickey).",
    "stranger": "Host key verification failed.",
}
words = sys.argv[1:]
while words[0] == "-o":
    words = words[2:]
host, command = words
assert host == "anna@pi", host
if trouble in refusals:
    fail(refusals[trouble], 255)
if command.startswith("tar") and trouble == "complains":
    sys.stderr.write("tar: implausibly old time stamp " * 10_000)
if command.startswith("tar") and trouble == "broken":
    sys.stdin.buffer.read(512)
    sys.stdin.close()
    lost()
if command.startswith("tar") and trouble == "fills":
    sys.stdin.buffer.read()
    fail("tar: encoder.onnx: Cannot write: No space left on device", 2)
shell(command)
"""
)


@pytest.fixture
def device_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both programs on the PATH; what the device holds."""
    programs, root = tmp_path / "programs", tmp_path / "device"
    programs.mkdir()
    root.mkdir()
    for name, text in (("adb", ADB), ("ssh", SSH)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_DEVICE", "")
    monkeypatch.setenv("FAKE_ROOT", str(root))
    return root
