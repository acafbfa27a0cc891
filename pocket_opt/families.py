"""What a recipe of a model without a family cannot be asked for, refused when planning."""

from __future__ import annotations

from pocket_opt.config.schema import Config
from pocket_opt.errors import UserError
from pocket_opt.models.sources import OPTIMUM


def check_family(config: Config) -> None:
    """Raise UserError for a setting that speaks of speech where nothing of the model is known but its graphs."""
    if config.recipe.family != OPTIMUM:
        return
    asked = {
        "recipe.student": config.recipe.student is not None,
        f"decoder={config.decoder.name}": config.decoder.name != "kv_cache",
        f"decoding={config.decoding.name}": config.decoding.name != "greedy",
        "decoding.language": config.decoding.language is not None,
        "audio_context=auto": config.audio_context == "auto",
        "data.evaluation.path": config.data.evaluation.path is not None,
        "recipe.data.evaluation": config.recipe.data.evaluation is not None,
        "data.calibration.path": config.data.calibration.path is not None,
        f"bundle.layout={config.bundle.layout}": config.bundle.layout != "native",
        f"search={config.search.name}": config.search.name != "none",
        "tracking.upload_models=true": config.tracking.upload_models,
    }
    for setting, given in asked.items():
        if given:
            raise UserError(
                f"{setting} is for models of speech, and of this one only its graphs are known",
                where=setting,
                allowed="target, level, nodes, overrides and budgets of size, latency and parity",
                fix="leave it out, or take a recipe with family: whisper",
            )
