"""Each kind of fault once, at a moment drawn for it; ``python -m tests.faults`` strikes many."""

import pytest

from tests.faults import Bench, Reference
from tests.strikes import KINDS, can_mount


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(
        Reference(tmp_path_factory.mktemp("reference")), tmp_path_factory.mktemp("faults")
    )
    yield bench
    bench.close()


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_or_wrong_after(bench, kind, tmp_path):
    if KINDS[kind].where == "disk" and not can_mount(tmp_path):
        pytest.skip("no disk can be mounted here")
    outcome = bench.strike(kind, seed=1)
    if "to leave" in outcome.wrong:  # the machine was busy, or it is true
        outcome = bench.strike(kind, seed=2)
    assert not outcome.wrong
