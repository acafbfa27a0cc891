"""Whether a compiled model says what the graphs say that it was compiled from, run by ONNX Runtime on the CPU.

That separates what compiling changes (16-bit arithmetic, the kernels of another processor) from what quantizing changed
before. Both hear the same clips. Encoder outputs and logits are compared like those of the source model in `parity`,
and the tokens that each says by itself. A simulator takes its time, so the former is done on few clips; tokens are
those of the whole evaluation where they were measured, since the graphs alone are fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pocket_opt.data.planned import open_planned
from pocket_opt.evaluation import fidelity
from pocket_opt.evaluation.decoding import DecodingParams, decode, select_jobs
from pocket_opt.evaluation.hypotheses import read_hypotheses
from pocket_opt.evaluation.parity import COMPARED, compare_clip, listen, parity_metrics
from pocket_opt.evaluation.result import write_result
from pocket_opt.evaluation.token_parity import compare_tokens, token_metrics
from pocket_opt.passes.base import Inputs, Outcome, Pass, Progress, positive
from pocket_opt.worker import silent

REFERENCE = "the same graphs in ONNX Runtime on the CPU"


@dataclass(frozen=True)
class AgreementParams(DecodingParams):
    """What to compare on; how to decode is as for `quality`.

    Attributes:
        clips: on which numbers are compared, and tokens where quality is off; spread evenly over the data set.
        most_tokens: of such a clip.
    """

    clips: int = positive(4)
    most_tokens: int = positive(64)


class Agreement(Pass[AgreementParams]):
    """Compares a compiled model with its graphs."""

    version = 3
    Params = AgreementParams
    kind = "measure"
    tools = ("numpy", "onnxruntime", "onnxruntime-qnn")
    inputs = ("model", "graphs", "quality")
    optional = ("quality",)

    def run(
        self, inputs: Inputs, params: AgreementParams, workdir: Path, progress: Progress = silent
    ) -> Outcome:
        """Write `token_agreement`, `equal_texts` and the numbers of `parity`, against the graphs."""
        from pocket_opt.runtimes import open_runtime

        graphs, model = (open_runtime(inputs[name], threads=params.threads) for name in ("graphs", "model"))
        known = open_planned(params.data_path, params.data_digest)
        clips = known.limit(params.clips)
        found = {name: fidelity.Comparison() for name in COMPARED}
        for clip in clips:
            audio = clip.samples(graphs.sample_rate)[: round(graphs.window_s * graphs.sample_rate)]
            compare_clip(model, listen(graphs, audio, clip.language, params.most_tokens), found)
        why = f"against {REFERENCE}"
        if "quality" in inputs:
            said = {
                (one.id, one.task): (one.tokens, one.hypothesis) for one in read_hypotheses(inputs["quality"])
            }
            jobs, _ = select_jobs(graphs.prompt, known, params)
            jobs = [job for job in jobs if (job.clip.id, job.task) in said]
            expected = [(one.tokens, one.text) for one in decode(graphs, jobs, params, progress)]
            found_tokens = [said[job.clip.id, job.task] for job in jobs]
            tokens = token_metrics(list(zip(expected, found_tokens, strict=True)), f"as for quality; {why}")
        else:
            tokens = compare_tokens(graphs, model, clips, params.most_tokens, progress, why=why)
        metrics = {**tokens, **parity_metrics(found, len(clips))}
        return write_result(workdir, "agreement", metrics, {"against": REFERENCE})


PASS = Agreement()
