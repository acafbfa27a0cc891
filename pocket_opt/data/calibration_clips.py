"""What calibration clips must be, so that ranges found on them hold for others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocket_opt.errors import UserError

if TYPE_CHECKING:
    from pocket_opt.data.dataset import Dataset


def require_enough(found: int, least: int, *, where: str) -> None:
    """Raise UserError for less than `least` clips."""
    if found < least:
        raise UserError(
            f"{found} calibration clips are too few: ranges would be those of single words",
            where=where,
            allowed=f"at least {least}; 20 to 100 like those of the application",
            fix="name more clips by data.calibration.path",
        )


def require_clips(clips: Dataset, least: int) -> None:
    """Raise UserError for clips that are too few, or sampled too slowly to hold speech."""
    from pocket_opt.data.audio import require_speech_rate

    require_enough(len(clips), least, where=str(clips.source))
    for clip in clips:
        require_speech_rate(clip.path)
