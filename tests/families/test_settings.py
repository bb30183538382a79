"""What the Python models read of the environment."""

import pytest

from families.settings import count


def test_a_setting_is_read_where_it_is_set() -> None:
    assert count({}, "TRITOUCH_MAX_JOBS", 64) == 64
    assert count({"TRITOUCH_MAX_JOBS": ""}, "TRITOUCH_MAX_JOBS", 64) == 64
    assert count({"TRITOUCH_MAX_JOBS": "3"}, "TRITOUCH_MAX_JOBS", 64) == 3


@pytest.mark.parametrize("value", ["0", "abc", "-1", "1.5"])
def test_a_wrong_setting_is_named(value: str) -> None:
    with pytest.raises(ValueError, match=r"^TRITOUCH_MAX_JOBS must be a whole number of at least 1, and is '"):
        count({"TRITOUCH_MAX_JOBS": value}, "TRITOUCH_MAX_JOBS", 64)
