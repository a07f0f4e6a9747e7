"""Memory is promised beforehand, and kept; no more is read than was said."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import json_of, run_geomsae
from hypothesis import given, settings
from hypothesis import strategies as st

import geomsae
from geomsae.ask import Ask
from geomsae.errors import GeomsaeError
from geomsae.pairs.budget import PROCESS_BYTES, Job, bytes_read, plan_budget
from geomsae.pairs.plan import TILE, plan_triangle
from geomsae.pairs.schedule import Crew
from geomsae.pairs.stored import StoredDecoder
from geomsae.work import job_of

JOBS = st.builds(
    Job,
    st.integers(1, 600 * TILE),
    st.integers(1, 8192),
    st.sampled_from([1, 2, 8]).map(lambda tiles: tiles * TILE),
)


@given(JOBS, st.integers(1, 40), st.integers(1, 16), st.booleans())
@settings(max_examples=60)
def test_a_budget_keeps_to_its_memory_or_is_refused(job, gigabytes, threads, here):
    crew = Crew(threads, 1 if here else 3, here)
    memory = gigabytes * 10**9
    ask = Ask(thresholds=(0.1,), neighbours=2, pairs=100)
    try:
        budget = plan_budget(job, ask, memory, crew)
    except GeomsaeError:
        with pytest.raises(GeomsaeError, match=r"takes at least .* --memory"):
            plan_budget(job, ask, memory, crew)
        return
    assert budget.total <= memory
    assert 1 <= budget.threads <= threads
    assert budget.held >= 1
    assert crew.processes * budget.panel_bytes < memory
    read = bytes_read(job, budget)
    assert read >= 4 * job.n * job.d


def test_a_million_features_fit_into_two_gigabytes():
    budget = plan_budget(Job(1 << 20, 2304, TILE), Ask(), 2 * 10**9, Crew(2))
    assert budget.threads == 2
    assert budget.held == 8


def test_what_cannot_fit_is_refused_with_what_it_takes(store, tmp_path):
    for verb in ("plan", "histogram"):
        _, told = run_geomsae(
            verb, "--memory", "100MB", "--store", store.location, cwd=tmp_path, status=1
        )
        assert "takes at least" in told
        assert "--memory" in told
    needed = int(told.split("at least ")[1].split(" MB")[0].replace(",", ""))
    json_of("plan", "--memory", f"{needed}MB", "--store", store.location, cwd=tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("memory", [340, 420, 2000])
def test_no_more_is_read_than_planned(tmp_path, monkeypatch, memory):
    store = geomsae.open_store(tmp_path / "s", create=True)
    list(geomsae.convert("random:40000x96", store))
    (key,) = store.decoders
    loads = []
    right = StoredDecoder._load

    def load(self, first):
        loads.append(min(self.run, self.n - first) * 96 * 4)
        return right(self, first)

    monkeypatch.setattr(StoredDecoder, "_load", load)
    ask, job = Ask(), job_of(store, key)
    memory = PROCESS_BYTES + memory * 10**6
    budget = plan_budget(job, ask, memory, Crew(2))
    nothing = {"thresholds": [], "neighbours": 0, "pairs": 0}
    list(geomsae.compute_histograms(store, memory=memory, **nothing))
    assert 40000 * 96 * 4 <= sum(loads) <= bytes_read(job, budget)


@pytest.mark.long
def test_counts_are_the_same_in_any_memory(tmp_path):
    store = geomsae.open_store(tmp_path / "s", create=True)
    list(geomsae.convert("random:20000x600", store))
    (key,) = store.decoders
    expected = geomsae.cosine_histogram(store.decoder(key), neighbours=2, pairs=50).compute()
    for memory in (560 * 10**6, 700 * 10**6, 4 * 10**9):
        asked = {"thresholds": [], "neighbours": 2, "pairs": 50, "memory": memory}
        list(geomsae.compute_histograms(store, **asked))
        assert (store.histograms()["count"][0].values == expected["count"].values).all()
        for name in ("nearest", "nearest_cosine", "opposite", "opposite_cosine"):
            assert (store.features(key)[name].values == expected[name].values).all()
        for name in ("top_similar", "top_opposite"):
            assert (store.pairs(key)[name].values == expected[name].values).all()
        subprocess.run(["rm", "-r", f"{store.location}/{key}/results"], check=True)


WATCHED = """
import sys, threading, psutil, geomsae
most = 0
def watch():
    global most
    me = psutil.Process()
    while True:
        most = max(most, me.memory_full_info().uss)
        threading.Event().wait(0.02)
threading.Thread(target=watch, daemon=True).start()
list(geomsae.compute_histograms(geomsae.open_store(sys.argv[1]), memory=int(sys.argv[2])))
print(most)
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="private memory is Linux's word")
def test_the_promise_is_kept(tmp_path):
    store = geomsae.open_store(tmp_path / "s", create=True)
    list(geomsae.convert("random:16384x1024", store))
    for memory in (600 * 10**6, 900 * 10**6):
        watched = subprocess.run(
            [sys.executable, "-c", WATCHED, store.location, str(memory)],
            check=True,
            capture_output=True,
            text=True,
        )
        assert int(watched.stdout) <= memory
        subprocess.run(["rm", "-r", f"{store.location}/{next(iter(store.decoders))}/results"])


def test_the_plan_tells_what_a_run_takes(store, tmp_path):
    rows = json_of("plan", "--store", store.location, cwd=tmp_path)
    assert sorted(row["n_features"] for row in rows) == [60, 61, 62, 63]
    for row in rows:
        n = row["n_features"]
        assert row["pairs"] == n * (n - 1) // 2
        assert row["operations"] == 2 * row["pairs"] * row["d_model"]
        assert row["tasks"] == len(plan_triangle(n))
        assert row["bytes_read"] == n * row["d_model"] * 4
        assert row["seconds"] > 0
    list(geomsae.compute_histograms(store))
    assert json_of("plan", "--store", store.location, cwd=tmp_path) == []


def test_an_odd_amount_of_memory_is_refused(tmp_path):
    _, told = run_geomsae("histogram", "--memory", "plenty", cwd=tmp_path, status=2)
    assert "2GB" in told
