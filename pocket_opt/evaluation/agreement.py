"""Whether a compiled model says what the graphs say that it was compiled from, run by ONNX Runtime on the CPU.

That separates what compiling changes (16-bit arithmetic, the kernels of another processor) from what quantizing changed
before. Both hear the same clips. Encoder outputs and logits are compared like those of the source model in `parity`,
and the tokens that each says by itself. A simulator takes its time, so clips are few.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pocket_opt.data.planned import open_planned
from pocket_opt.evaluation import fidelity
from pocket_opt.evaluation.parity import COMPARED, compare_clip, listen, parity_metrics
from pocket_opt.evaluation.result import write_result
from pocket_opt.evaluation.token_parity import compare_tokens
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, neutral, planned, positive
from pocket_opt.worker import silent

REFERENCE = "the same graphs in ONNX Runtime on the CPU"


@dataclass(frozen=True)
class AgreementParams:
    """What to compare on.

    Attributes:
        data_path: directory of the data set.
        data_digest: its digest; enters the key in place of the path.
        clips: how many, spread evenly over the data set.
        max_new_tokens: most tokens of a clip that are compared.
        threads: of the runtimes; 0 is their default.
    """

    data_path: str = neutral("", instead="data.evaluation.path")
    data_digest: str = planned("", instead="data.evaluation.path")
    clips: int = positive(4)
    max_new_tokens: int = positive(64)
    threads: int = neutral(0)


class Agreement(Pass[AgreementParams]):
    """Compares a compiled model with its graphs."""

    version = 1
    Params = AgreementParams
    kind = "measure"
    tools = ("numpy", "onnxruntime", "onnxruntime-qnn")
    inputs = ("model", "graphs")

    def run(
        self, inputs: Inputs, params: AgreementParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Write `token_agreement`, `equal_texts` and the numbers of `parity`, against the graphs."""
        from pocket_opt.runtimes import open_runtime

        graphs, model = (open_runtime(inputs[name], threads=params.threads) for name in ("graphs", "model"))
        clips = open_planned(params.data_path, params.data_digest).limit(params.clips)
        found = {name: fidelity.Comparison() for name in COMPARED}
        for clip in clips:
            audio = clip.samples(graphs.sample_rate)[: round(graphs.window_s * graphs.sample_rate)]
            compare_clip(model, listen(graphs, audio, clip.language, params.max_new_tokens), found)
        tokens = compare_tokens(
            graphs, model, clips, params.max_new_tokens, progress, why=f"against {REFERENCE}"
        )
        metrics = {**tokens, **parity_metrics(found, len(clips))}
        return write_result(workdir, "agreement", metrics, {"against": REFERENCE})


PASS = Agreement()
