"""Whether onnxruntime-extensions is here, in a version that works; it is where the extra `dev` was installed."""

from __future__ import annotations

import pytest

from pocket_opt.models.whisper.runner.extensions import require_extensions
from pocket_opt.models.whisper.runner.transcript import RequestError

try:
    require_extensions()
    WHY = ""
except RequestError as error:
    WHY = str(error)

needs_extensions = pytest.mark.skipif(bool(WHY), reason=WHY)
