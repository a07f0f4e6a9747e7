import threading

import numpy as np
import pytest

from geomsae.pairs.cache import PanelCache
from geomsae.pairs.panels import make_panel


def test_the_cache_keeps_to_its_budget_and_loads_each_panel_once():
    cache, loaded = PanelCache(), []

    def get(key, budget):
        def load():
            loaded.append(key)
            return [make_panel(np.ones((10, 10)), "float32")]

        return cache.get(key, load, budget)

    one = get("a", 0)[0].nbytes
    get("a", 3 * one)
    assert loaded == ["a"]
    for key in "bcd":
        get(key, 3 * one)
    get("b", 3 * one)
    assert loaded == list("abcd")
    get("a", 3 * one)
    assert loaded == list("abcda")


def test_a_panel_that_fails_to_load_is_tried_again():
    cache = PanelCache()

    def broken():
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        cache.get("a", broken, 100)
    assert cache.get("a", list, 100) == []


def test_panels_are_read_while_others_are_computed_with():
    cache = PanelCache()
    computing, reading = threading.Event(), threading.Event()

    def load():
        assert computing.wait(30)  # else the reader would have kept the one who computes waiting
        reading.set()
        return [make_panel(np.ones((2, 2)), "float32")]

    cache.ahead("a", load, 100)
    computing.set()
    assert reading.wait(30)
    assert len(cache.get("a", lambda: pytest.fail("was read twice"), 100)) == 1


def test_what_failed_ahead_is_told_to_who_needs_it():
    cache = PanelCache()

    def broken():
        raise OSError("gone")

    cache.ahead("a", broken, 100)
    with pytest.raises(OSError, match="gone"):
        cache.get("a", broken, 100)
