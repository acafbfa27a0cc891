"""Confidence intervals of error rates by resampling clips, alone and paired.

Percentile bootstrap over utterances, as proposed for WER by Bisani and Ney, "Bootstrap estimates for confidence
intervals in ASR performance evaluation", ICASSP 2004. Clips are drawn together with their lengths, because a rate is a
ratio of two sums. The seed is fixed: the same counts always give the same interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 2000
SEED = 20041
LEVEL = 95.0
METHOD = f"{LEVEL:g} % percentile bootstrap over clips, {RESAMPLES} resamples, fixed seed"
_CHUNK = 100
"""Resamples drawn at a time: bounds memory to 100 indices per clip."""


def rate_interval(errors: Sequence[int], lengths: Sequence[int]) -> tuple[float, float]:
    """Bounds, in %, of `sum(errors) / sum(lengths)`; one entry per clip, none of zero length."""
    rates = _resampled(errors, [0] * len(errors), lengths)
    return _bounds(rates)


def paired_interval(
    errors: Sequence[int], baseline_errors: Sequence[int], lengths: Sequence[int]
) -> tuple[float, float]:
    """Bounds, in points, of the rate of `errors` minus that of `baseline_errors` on the same resampled clips."""
    return _bounds(_resampled(errors, baseline_errors, lengths))


def _resampled(
    errors: Sequence[int], baseline_errors: Sequence[int], lengths: Sequence[int]
) -> NDArray[np.float64]:
    """The difference of the two rates, in %, for each resample."""
    import numpy as np

    if not lengths or not len(errors) == len(baseline_errors) == len(lengths):
        raise ValueError("a bootstrap needs at least one clip, and as many error counts as lengths")
    change = np.asarray(errors, np.float64) - np.asarray(baseline_errors, np.float64)
    length = np.asarray(lengths, np.float64)
    generator = np.random.default_rng(SEED)
    rates = []
    for _ in range(RESAMPLES // _CHUNK):
        drawn = generator.integers(len(length), size=(_CHUNK, len(length)))
        rates.append(100 * change[drawn].sum(axis=1) / length[drawn].sum(axis=1))
    return np.concatenate(rates)


def _bounds(values: NDArray[np.float64]) -> tuple[float, float]:
    import numpy as np

    tail = (100 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
