"""The library takes any option in silence; here each is known, and its value too."""

from __future__ import annotations

import pytest

from pocket_opt.errors import UserError
from pocket_opt.qnn.options import CHOICES, ELSEWHERE, check_options


def test_every_known_option_and_value_passes() -> None:
    for key, values in CHOICES.items():
        for value in values:
            check_options({key: value}, where="here")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"htp_performance_mod": "burst"}, "did you mean 'htp_performance_mode'"),
        ({"htp_performance_mode": "brust"}, "did you mean 'burst'"),
        ({"enable_htp_graph_splitting": "true"}, "there is no value of enable_htp_graph_splitting 'true'"),
        ({"profiling_file_path": "/tmp/x"}, "there is no option of the QNN provider"),
    ],
)
def test_others_are_refused_with_the_nearest(options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_options(options, where="here")


@pytest.mark.parametrize("key", ELSEWHERE)
def test_what_follows_from_something_else_says_from_what(key: str) -> None:
    with pytest.raises(UserError, match=f"'{key}' is not set here"):
        check_options({key: "79"}, where="here")
