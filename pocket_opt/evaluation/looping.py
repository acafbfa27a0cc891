"""When an output counts as a loop: the commonest way in which a damaged speech decoder fails.

An average hides it, so looping outputs are counted. The compression criterion and its threshold are those of
Whisper's own fallback (https://arxiv.org/abs/2212.04356, section 4.5); it is blind in short outputs, hence the second.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

MAX_COMPRESSION_RATIO = 2.4
MAX_PHRASE_WORDS = 8
MIN_REPEATS = 4
METHOD = (
    f"output whose UTF-8 bytes zlib compresses more than {MAX_COMPRESSION_RATIO} times, or in which a phrase of 1 to "
    f"{MAX_PHRASE_WORDS} words stands {MIN_REPEATS} times in a row, while the reference has neither"
)


def is_looping(hypothesis: str, reference: str = "") -> bool:
    """Whether a normalized hypothesis repeats itself although its reference does not."""
    return repeats_itself(hypothesis) and not repeats_itself(reference)


def repeats_itself(text: str) -> bool:
    """Whether a text is over the compression threshold or holds a phrase several times in a row."""
    words = text.split()
    return compression_ratio(text) > MAX_COMPRESSION_RATIO or any(
        _has_run(words, size) for size in range(1, MAX_PHRASE_WORDS + 1)
    )


def compression_ratio(text: str) -> float:
    """UTF-8 bytes over zlib-compressed bytes; 0 for an empty text."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def _has_run(words: Sequence[str], size: int) -> bool:
    """Whether a phrase of `size` words stands `MIN_REPEATS` times in a row: that many equal words `size` apart."""
    equal = 0
    for first, second in zip(words, words[size:], strict=False):
        equal = equal + 1 if first == second else 0
        if equal == size * (MIN_REPEATS - 1):
            return True
    return False
