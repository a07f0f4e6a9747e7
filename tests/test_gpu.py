"""The kernel of a card against float64 and against the processor's, on a card or its emulation."""

from contextlib import suppress
from threading import Barrier
from types import SimpleNamespace

import dask
import numpy as np
import pytest
from brute_force import NEAR, assert_counts, cosines
from conftest import run_geomsae
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_features import THRESHOLDS, all_cosines, assert_degrees, assert_partners
from test_pairs import decoders
from test_real import SAE

import benchmarks.gpu as benchmark
import geomsae
from geomsae import cosine_histogram, counting, results
from geomsae.ask import Ask
from geomsae.bins import edges
from geomsae.errors import DecoderError, DeviceError, DeviceMemoryError
from geomsae.pairs import count, stored
from geomsae.pairs.budget import Budget, Job
from geomsae.pairs.gpu import card as card_module
from geomsae.pairs.gpu import counter, extremes, launch
from geomsae.pairs.gpu.budget import CONTEXT_BYTES, plan_card
from geomsae.pairs.plan import TILE, SuperTile
from geomsae.pairs.schedule import Crew
from geomsae.sources import Wanted, find
from geomsae.verification import verify
from geomsae.work import Means, Work

pytestmark = pytest.mark.long

CLOSE = ("float32", "float64", "fp16x3")
"""The precisions that keep to the rule of accuracy."""

EVERYTHING = {"thresholds": THRESHOLDS, "neighbours": 3, "pairs": 7}

few = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])


def counted(*matrices, **words):
    """Everything that one pass tells, on the card."""
    with dask.config.set(scheduler="synchronous"):
        return cosine_histogram(*matrices, device="gpu", **words).compute()


def assert_same(one, other):
    """Hold two datasets against each other, but for what multiplied."""
    assert one.drop_attrs().identical(other.drop_attrs())


@st.composite
def small(draw):
    """As `decoders`, but few: an emulated thread is slow."""
    return draw(decoders())[: draw(st.sampled_from([1, 33, 90]))]


@few
@given(w=small(), precision=st.sampled_from(CLOSE))
def test_agrees_with_brute_force(card, w, precision):
    found = counted(w, precision=precision, **EVERYTHING)
    assert_counts(found, cosines(w))
    exact = all_cosines(w)
    assert_degrees(exact, found["degree"].values)
    assert_partners(exact, found["nearest"].values, found["nearest_cosine"].values, 1)
    opposite = (found[name].values[:, None] for name in ("opposite", "opposite_cosine"))
    assert_partners(exact, *opposite, -1)


@few
@given(w=small(), v=small(), bins=st.sampled_from([2, 7, 200, 2000, 30_001]))
def test_finds_what_the_processor_finds_in_float64(card, w, v, bins):
    d = min(w.shape[1], v.shape[1])
    words = {"precision": "float64", "neighbours": 2, "pairs": 5, "bins": bins}
    for matrices in ((w,), (w[:, :d], v[:, :d])):
        mine, theirs = (
            counted(*matrices, **words),
            cosine_histogram(*matrices, **words, device="cpu"),
        )
        for name, values in theirs.compute().items():
            if name.endswith("cosine"):
                np.testing.assert_allclose(mine[name], values, rtol=0, atol=1e-14)
            elif name in ("n_pairs", "n_excluded"):
                assert mine[name] == values
        assert_counts(mine, cosines(*matrices))


@pytest.mark.parametrize("shape", [(1, 2), (2, 2), (65, 3), (257, 9)])
@pytest.mark.parametrize("precision", CLOSE)
def test_odd_shapes(card, shape, precision):
    w = np.random.default_rng(sum(shape)).standard_normal(shape)
    found = counted(w, precision=precision, bins=200, **EVERYTHING)
    assert_counts(found, cosines(w))
    assert_degrees(all_cosines(w), found["degree"].values)


def test_several_tiles_find_what_the_processor_finds(card):
    w = np.random.default_rng(0).standard_normal((TILE + 70, 24)).astype(np.float32)
    w[5], w[TILE + 9] = 0, w[11]
    found = counted(w, neighbours=1, pairs=20, thresholds=[0.2])
    theirs = cosine_histogram(w, neighbours=1, pairs=20, thresholds=[0.2], device="cpu").compute()
    assert_counts(found, cosines(w))
    assert int(found["n_excluded"]) == 1
    assert found["nearest"][11] == TILE + 9
    for name in ("nearest", "opposite", "top_similar", "top_opposite"):
        assert (found[name] != theirs[name]).sum() <= 2  # two that differ by a rounding


def test_more_thresholds_than_fit_at_once(card):
    w = np.random.default_rng(1).standard_normal((90, 5))
    thresholds = np.round(np.arange(0.05, 1, 0.05), 2)
    degree = counted(w, thresholds=thresholds)["degree"].values
    size = np.abs(np.nan_to_num(all_cosines(w)))
    least, most = (
        np.array([(size >= t + off).sum(axis=1) for t in thresholds]).T for off in (NEAR, -NEAR)
    )
    assert ((least <= degree) & (degree <= most)).all()


def test_more_neighbours_than_a_warp_has_lanes(card):
    w = np.random.default_rng(2).standard_normal((120, 6))
    found = counted(w, neighbours=70, precision="float64")
    assert_partners(all_cosines(w), found["nearest"].values, found["nearest_cosine"].values, 1)


def test_ties_go_to_the_lower_number(card):
    w = np.repeat(np.eye(3), 30, axis=0)
    words = {"neighbours": 4, "pairs": 50, "thresholds": [0.5]}
    assert_same(counted(w, **words), cosine_histogram(w, **words, device="cpu").compute())


@pytest.mark.parametrize("room", [132, 400, 20_000])
def test_more_extreme_pairs_than_there_is_room_for(card, monkeypatch, room):
    """Duplicates alone are more than fit: then a tile is gone through again, in parts."""
    w = np.repeat(np.random.default_rng(3).standard_normal((12, 5)), 11, axis=0)
    monkeypatch.setattr(extremes, "room_for", lambda ask: room)
    mine, theirs = (
        cosine_histogram(w, pairs=300, precision="float64", device=device).compute()
        for device in ("gpu", "cpu")
    )
    np.testing.assert_allclose(mine["top_similar_cosine"], theirs["top_similar_cosine"], atol=1e-14)
    assert len(np.unique(mine["top_similar"], axis=0)) == 300
    np.testing.assert_allclose(
        mine["top_opposite_cosine"], theirs["top_opposite_cosine"], atol=1e-14
    )


def test_the_bin_rule_is_kept_to_at_every_edge(card):
    """Floats beside an edge, the edge itself where it is one, and what rounding pushes out."""
    import cupy

    for bins in (2000, 7, 4096):
        exact = edges(bins).astype(np.float32)
        values = np.concatenate(
            [
                exact,
                *(np.nextafter(exact, np.float32(to)) for to in (-2, 2)),
                [1.0000001, -1.0000001],
            ]
        ).astype(np.float32)
        values = values[: values.size // 2 * 2].reshape(2, -1)
        count, total = cupy.zeros(bins, np.uint64), cupy.zeros(1, np.float64)
        nothing, sides = cupy.zeros(0, np.int32), cupy.zeros((0, values.size), np.int32)
        there = cupy.asarray(np.ascontiguousarray(values))
        launch.count_pairs(there, values.shape[1], count, total, nothing, sides, sides)
        wide = values.astype(np.float64).ravel()
        right = np.clip(np.floor(wide * (bins / 2) + 0.5 * (bins % 2)) + bins // 2, 0, bins - 1)
        assert count.get().tolist() == np.bincount(right.astype(int), minlength=bins).tolist()
        assert float(total.get()[0]) == pytest.approx(wide.sum(), abs=1e-9)


@pytest.mark.parametrize("precision", CLOSE)
def test_real_dictionaries_keep_to_the_rule(card, real, precision):
    (sae,) = find(str(real / SAE), Wanted(model="rf", tensor="main.W_dec", transpose=False))
    clip_file = str(real / "clip_vitb32_imagenet_directions.safetensors")
    (clip,) = find(clip_file, Wanted(model="clip"))
    for offer in (sae, clip):
        rows = np.concatenate(list(offer.open().blocks(1000)))
        assert_counts(counted(rows, precision=precision), cosines(rows))


def test_tf32_is_close_enough_for_a_look(card):
    w = np.random.default_rng(4).standard_normal((256, 256))
    found = counted(w, precision="tf32", neighbours=1)
    right = np.nanmax(all_cosines(w), axis=1)
    off = np.abs(found["nearest_cosine"].values[:, 0] - right).max()
    assert NEAR < off < 1e-3  # or it was not tf32


def test_rows_that_are_no_numbers_are_named(card):
    w = np.ones((30, 4), np.float32)
    w[17, 2], w[20] = np.nan, np.inf
    with pytest.raises(DecoderError, match=r"2 of the rows from 0 to 29.*first: row 17"):
        counted(w)


def test_norms_of_any_size(card):
    rng = np.random.default_rng(5)
    w = rng.standard_normal((40, 6)) * 10.0 ** rng.integers(-300, 300, (40, 1))
    assert_counts(counted(w, precision="float64"), cosines(w))


def test_a_store_counted_on_a_card(card, store):
    ids = list(geomsae.compute_histograms(store, device="gpu"))
    assert ids == list(store.decoders)
    hist = store.histograms()
    assert set(hist["device"].values) == {"gpu"}
    for key in ids:
        assert_counts(hist.sel(dictionary=key), cosines(store.decoder(key).values))
        found = store.features(key)
        exact = all_cosines(store.decoder(key).values)
        assert_partners(exact, found["nearest"].values, found["nearest_cosine"].values, 1)
    assert not [
        finding for finding in verify(store, store.decoders, lambda _: None) if finding.problem
    ]


def test_two_stored_dictionaries_on_a_card(card, store):
    one, other = list(store.decoders)[:2]
    words = {"precision": "float64"}
    mine = geomsae.compare_stored(store, one, other, device="gpu", **words)
    theirs = geomsae.compare_stored(store, one, other, device="cpu", **words)
    assert mine["count"].equals(theirs["count"])
    assert mine["mean_max_cosine"].item() == pytest.approx(
        theirs["mean_max_cosine"].item(), abs=1e-14
    )


def test_several_cards_are_given_a_dictionary_each(emulate, monkeypatch, store):
    emulate()
    together = Barrier(3, timeout=60)
    monkeypatch.setattr(results, "crew", lambda device: Crew(1, here=False, teams=3))
    monkeypatch.setattr(results, "_complete", lambda *_: together.wait())
    ids = list(store.decoders)[:3]
    assert list(geomsae.compute_histograms(store, ids, device="gpu")) == ids


def test_auto_takes_the_card(card):
    w = np.eye(4)
    assert cosine_histogram(w).attrs["device"] == "gpu"
    assert cosine_histogram(w, device="cpu").attrs["device"] == "cpu"


@given(
    n=st.integers(1, 1 << 20),
    d=st.sampled_from([2, 384, 2304, 3584]),
    precision=st.sampled_from([*CLOSE, "tf32"]),
    memory=st.integers(10**8, 140 * 10**9),
)
def test_a_plan_keeps_to_the_memory_of_a_card(n, d, precision, memory):
    job, ask = (
        Job(n, d, TILE),
        Ask(precision=precision, thresholds=(0.1,), neighbours=1, pairs=1000),
    )
    try:
        budget = plan_card(job, ask, memory)
    except DeviceMemoryError:
        needed = plan_card(job, ask, 140 * 10**9)
        assert needed.device_bytes + CONTEXT_BYTES > memory
        return
    assert budget.device_bytes + CONTEXT_BYTES <= memory
    assert budget.held <= budget.side
    assert budget.panel_bytes >= min(job.runs, 3) * job.run_bytes(ask.dtype)


def test_a_task_of_a_large_dictionary_is_large():
    ask = Ask(neighbours=1, pairs=1000)
    small, large = (plan_card(Job(n, 2304, TILE), ask, 140 * 10**9) for n in (16_384, 1 << 20))
    assert small.side == 8
    assert small.all_fit
    assert 2 * (large.side * TILE) ** 2 * 2304 > 4e13  # a second of a large card


def test_panels_on_a_card_keep_to_its_memory_where_not_all_fit(emulate, monkeypatch, tmp_path):
    """Nothing is computed here: what is alive on the card is what is counted."""
    store = geomsae.open_store(tmp_path / "store", create=True)
    list(geomsae.convert(f"random:{16 * TILE}x2304", store))
    emulate()
    for module, name in ((launch, "normalise"), (counter, "multiply"), (count, "_check")):
        monkeypatch.setattr(module, name, lambda *_: None)
    monkeypatch.setattr(counter.DeviceCounter, "_keep", lambda *_: None)
    monkeypatch.setattr(counter.DeviceCounter, "sums", property(lambda self: [0.0] * self._made))
    monkeypatch.setattr(count._Implied, "check", lambda *_: None)
    work = Work(store, tuple(store.decoders), Ask())
    held = []
    for memory in (1.1e9, 1.2e9):
        budget = Means("gpu", 10**11, int(memory)).budget(work)
        assert not budget.all_fit
        pool, most = card_module._pool(), []
        monkeypatch.setattr(pool, "malloc", watched(pool, most))
        rows, _ = work.decoders(budget)
        for part in work.plan(budget):
            stored.count_stored(rows, None, part, work.ask, budget.held)
        stored.forget("gpu")
        assert max(most) <= budget.device_bytes
        held.append(budget.held)
    assert held[0] < held[1]


def watched(pool, most):
    """The allocation of a pool, with a note of what is alive."""
    malloc = type(pool).malloc

    def watch(array):
        malloc(pool, array)
        most.append(pool.alive)

    return watch


def test_a_budget_shrinks_by_its_panels_until_it_cannot():
    means = Means("gpu", 10**10, 10**11)
    large = SimpleNamespace(job=Job(1 << 18, 2304, TILE), other=None, ask=Ask(neighbours=1))
    budgets = [means.budget(large)]
    with suppress(DeviceMemoryError):
        while len(budgets) < 1000:
            budgets.append(means.smaller(large, budgets[-1]))
    assert 3 < len(budgets) < 1000
    assert len({budget.side for budget in budgets}) == 1  # or finished tasks would be lost
    held = [budget.device_bytes for budget in budgets]
    assert held == sorted(held, reverse=True)


def test_a_card_with_less_memory_than_promised_is_given_less(monkeypatch, store):
    """What was counted before stays counted, the rest goes on, and it is said once."""
    work = Work(store, (next(iter(store.decoders)),), Ask())
    plan = [SuperTile(range(k, k + 1), range(k, k + 1), True) for k in range(4)]
    budgets = [Budget(1, 1, size, 0, True, device_bytes=size) for size in (8, 4, 2)]
    smaller = SimpleNamespace(smaller=lambda _, before: budgets[budgets.index(before) + 1])
    done, given, said = np.zeros(4, np.bool_), [], []

    def run(function, tasks, add, threads, device):
        for number, rows, *_ in tasks:
            given.append((number, rows.device_bytes))
            if rows.device_bytes > 2 and number > 0:
                raise DeviceMemoryError("there is none left")
            add(number)

    def add(number):
        done[number] = True

    monkeypatch.setattr(counting, "run", run)
    counting._count_left(work, budgets[0], plan, done, add, smaller, said.append)
    assert given == [(0, 8), (1, 8), (1, 4), (1, 2), (2, 2), (3, 2)]
    assert said == ["there is none left: going on with less of it"]


def test_without_a_card_it_is_said_what_to_install(no_card, store):
    with pytest.raises(DeviceError, match=r"pip install 'geomsae\[cuda13\]', or .*cuda12.*cpu"):
        geomsae.compute_histograms(store, device="gpu")
    with pytest.raises(DeviceError, match="fp16x3 takes the tensor cores of a GPU: use float32"):
        geomsae.compute_histograms(store, precision="fp16x3")
    with pytest.raises(DeviceError, match="tf32 takes"):
        cosine_histogram(np.eye(3), precision="tf32")
    with pytest.raises(DeviceError, match="no device 'tpu': use auto, cpu, gpu"):
        geomsae.compute_histograms(store, device="tpu")


def test_without_a_card_the_command_says_one_sentence(no_card, store, tmp_path):
    words = ("histogram", "--store", store.location, "--device", "gpu")
    err = run_geomsae(*words, cwd=tmp_path, status=1)[1].strip()
    assert err.startswith("Error: no GPU can be used here: pip install")
    assert "\n" not in err


def test_a_precision_that_a_card_cannot_do_is_refused_by_name(emulate):
    emulate(capability="61")
    counted(np.eye(3))
    for precision in ("fp16x3", "tf32"):
        with pytest.raises(DeviceError, match=f"cannot multiply in {precision}: .* 6.1"):
            counted(np.eye(3), precision=precision)


def test_too_little_memory_of_a_card_is_refused_before_any_work(emulate, store):
    emulate()
    with pytest.raises(DeviceMemoryError, match=r"at least [0-9]+ MB of a GPU's memory and 10 MB"):
        geomsae.compute_histograms(store, device="gpu", device_memory=10**7)


def test_the_benchmark_prints_every_way_that_fits(emulate, monkeypatch, capsys):
    emulate()
    monkeypatch.setattr(benchmark, "published", lambda rows: None)
    monkeypatch.setattr(benchmark, "has_torch", lambda: False)
    benchmark.measure(n=150, d=8, repeats=1)
    printed = capsys.readouterr().out
    rows = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("|")]
    for precision in (*CLOSE, "tf32"):
        alone, ours = f"products alone, {precision}", f"geomsae, {precision}"
        every = [alone, ours, f"{ours}, with features and pairs", f"{ours}, from store to store"]
        assert set(every) <= set(rows)
    assert "not here" in printed
