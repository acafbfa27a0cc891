"""What programs of fixed shapes cannot do, whichever runtime they are for; known when planning."""

from __future__ import annotations

from pocket_opt.errors import UserError


def require_full_context(audio_context: str) -> None:
    """Raise UserError for windows that are shortened."""
    if audio_context != "full":
        raise UserError(
            "the shapes of this program are fixed, and audio_context=auto gives the encoder any length",
            where="audio_context",
            allowed="audio_context=full",
            fix="leave audio_context as it is, or choose target=cpu",
        )
