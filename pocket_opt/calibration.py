"""The clips that passes are calibrated on, as a plan hands them to the passes that ask for them.

A pass whose parameters are a `Calibrated` (`passes/base.py`) gets their place, which stays out of its key, and their
digest, which enters it; only where `Pass.calibrates` says that these parameters read audio at all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pocket_opt.config.schema import Config
from pocket_opt.data.calibration_clips import require_enough
from pocket_opt.data.dataset import Dataset
from pocket_opt.errors import UserError
from pocket_opt.models.sources import OPTIMUM

SAMPLE_CLIPS = "sample:calibration"


class CalibrationClips:
    """The data set of one configuration; what the user named is looked at even where no pass calibrates.

    Attributes:
        used: whether a pass asked.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._clips: Dataset | None = None
        self.used = False
        if config.data.calibration.path:
            self._clips = Dataset.open(config.data.calibration.path, where="data.calibration.path")

    def given_to(self, params: Any, *, node: str) -> Any:
        """`params`, a `Calibrated`, with path and digest of the clips.

        Raises:
            UserError: there are no clips for a model with real weights, or too few.
        """
        self.used = True
        if self._clips is None:
            self._clips = self._open(node)
        require_enough(len(self._clips), params.fewest_clips(), where=f"nodes.{node}, {self._clips.source}")
        path = str(self._clips.source.absolute())
        return replace(params, calibration_path=path, calibration_digest=self._clips.digest())

    def _open(self, node: str) -> Dataset:
        recipe = self._config.recipe
        if recipe.data.calibration:
            return Dataset.open(recipe.data.calibration, where="recipe.data.calibration")
        if recipe.family == OPTIMUM:
            raise UserError(
                "this pass is calibrated on speech, which this model is not known to hear",
                where=f"nodes.{node}",
                fix="leave it out, or choose a method without calibration (rtn, k_quant, hqq)",
            )
        if recipe.model.weights == "random":
            return Dataset.open(SAMPLE_CLIPS, where="data.calibration.path")
        raise UserError(
            "this pass is calibrated on audio, and none is named",
            where=f"nodes.{node}",
            allowed="a directory or list of clips with transcripts, 20 to 100 clips like those of the application",
            fix="set data.calibration.path=DIR, or choose a method without calibration",
        )
