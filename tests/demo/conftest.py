"""These tests' pictures are too small for more than one thread of torch's."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """Where other processes are busy, two threads wait for one another: an edit takes seconds instead of a quarter."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
