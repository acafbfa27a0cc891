"""What a finished variant is made of: the records that bundle, tracking and report are written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class NodeRecord:
    """One node of the graph as it was planned and carried out.

    Attributes:
        status: "cached" when the store had it, "run" when this command computed it.
        seconds: wall time of the computation (also for a cached node: when it was computed).
        bytes_before, bytes_after: model files of the first input and of the output.
        did: what the pass reports of itself (nodes fused, tensors quantized, left out and why).
    """

    name: str
    pass_name: str
    version: int
    kind: Literal["build", "measure"]
    params: Mapping[str, Any]
    inputs: tuple[str, ...]
    key: str
    status: Literal["cached", "run"]
    seconds: float
    bytes_before: int
    bytes_after: int
    did: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class VariantRecord:
    """One variant (recipe x target x level x overrides) after its graph has run.

    Attributes:
        level_rank: 0 for NONE to 4 for EXTREME.
        overrides: what the user set beyond recipe, target and level, e.g. `("decoder=basic",)`.
        build_key, measurement_key, row_key: the three identities (graph; + data, runtime, host; names as given).
        config: the resolved configuration, without paths and secrets.
        components: `{name: {"family", "target", "level"}}`.
        measurements: measure-node name -> its `result.json`.
        budget: metric name -> limit, for this level.
        sources: root of the graph -> what identifies it: hub id and resolved commit, content digest, or the seed.
        verified: `{"how": "native" | "simulator" | "structural", "scope": "231 clips"}`.
    """

    recipe: str
    target: str
    level: str
    level_rank: int
    overrides: tuple[str, ...]
    build_key: str
    measurement_key: str
    row_key: str
    config: Mapping[str, Any]
    components: Mapping[str, Mapping[str, str]]
    nodes: tuple[NodeRecord, ...]
    measurements: Mapping[str, Mapping[str, Any]]
    budget: Mapping[str, float]
    sources: Mapping[str, Mapping[str, str]]
    verified: Mapping[str, str]
    license: str
    weights: Literal["pretrained", "random"]
    seed: int


@dataclass(frozen=True)
class FailureRecord:
    """One variant that did not become a bundle.

    Attributes:
        recipe, target, level, level_rank, overrides, row_key: as of VariantRecord.
        node: the node of the graph that failed; "" if something else did.
        reason: the error as the user saw it.
    """

    recipe: str
    target: str
    level: str
    level_rank: int
    overrides: tuple[str, ...]
    row_key: str
    node: str
    reason: str
