"""Integer products on x86: a session entry without which those of signed weights may saturate.

With AVX2 or AVX512 but no VNNI the fast kernel adds pairs of products of 8 bits in 16 bits, which overflows where
weights use all levels; there is an exact, slower kernel, too. Source: onnxruntime_session_options_config_keys.h.
"""

from __future__ import annotations

from dataclasses import replace

from pocket_opt.artifact import Artifact

SESSION_ENTRIES = {"session.x64quantprecision": "1"}


def with_exact_products(artifact: Artifact) -> Artifact:
    """`artifact`, asking its sessions for the exact kernel."""
    session = dict(artifact.metadata.get("session", {}))
    session["entries"] = {**session.get("entries", {}), **SESSION_ENTRIES}
    return replace(artifact, metadata={**artifact.metadata, "session": session})
