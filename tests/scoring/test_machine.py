"""Setting the process up for scoring."""

import os
import subprocess
import sys

import pytest
import torch

from ecustream.errors import ConfigError
from ecustream.scoring.machine import find_device


def test_devices_are_found_or_refused_by_name() -> None:
    """The CPU is always there; a GPU that is not there is refused, and automatic takes what there is."""
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(
        ConfigError, match=r'scoring.device is "cuda:99", but torch finds \w+ CUDA devices here'
    ):
        find_device("cuda:99")


@pytest.mark.parametrize(("threads", "spare"), [(3, 1), (0, 0), (0, 1), (0, 10_000)])
def test_threads_are_as_asked_for_or_fit_the_machine(threads: int, spare: int) -> None:
    """A number counts; automatic is every core but the spare ones, at least one and at most four."""
    code = (
        "import torch; from ecustream.scoring.machine import prepare_machine; "
        f"print(prepare_machine({threads}, {spare}), torch.get_num_threads())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    expected = threads or max(1, min(4, len(os.sched_getaffinity(0)) - spare))
    assert told.split() == [str(expected)] * 2
