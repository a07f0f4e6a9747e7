import numpy as np
import pytest
from brute_force import assert_counts, cosines

import geomsae
from geomsae.analysis import isotropic_tail
from geomsae.errors import ConservationError, GeomsaeError, ThresholdError
from geomsae.results import missing_histograms, usual_ask
from geomsae.sources import Wanted


def test_every_dictionary_is_counted_once(store):
    told = []
    made = list(geomsae.compute_histograms(store, progress=told.append))
    assert made == list(store.decoders)
    hist = store.histograms()
    for number, key in enumerate(hist["dictionary"].values):
        assert_counts(hist.isel(dictionary=number), cosines(store.decoder(key).values))
    assert sum(told) == int(hist["n_pairs"].sum())
    assert list(geomsae.compute_histograms(store)) == []


def test_the_store_and_the_matrix_give_the_same_counts(tmp_path):
    store = geomsae.open_store(tmp_path / "s", create=True)
    list(geomsae.convert("random:5000x300", store))
    (key,) = geomsae.compute_histograms(store)
    direct = geomsae.cosine_histogram(store.decoder(key)).compute()
    assert (store.histograms()["count"][0].values == direct["count"].values).all()


def test_how_it_was_made_is_a_coordinate(store):
    list(geomsae.compute_histograms(store))
    hist = store.histograms()
    for name in ("version", "precision", "device", "revision", "sha256"):
        assert hist[name].dims == ("dictionary",)
    assert set(hist["device"].values) == {"cpu"}
    recorded = [store.attributes(key)["sha256"] for key in hist["dictionary"].values]
    assert hist["sha256"].values.tolist() == recorded


def test_other_bins_and_precisions_are_kept_apart(store):
    list(geomsae.compute_histograms(store, bins=200))
    list(geomsae.compute_histograms(store, list(store.decoders)[:1], precision="float64"))
    assert store.histograms().sizes["dictionary"] == 0
    assert store.histograms(200).sizes == {"dictionary": 4, "cosine": 200}
    assert store.histograms(precision="float64").sizes["dictionary"] == 1
    assert store.catalog()["histograms"].tolist() == [2, 1, 1, 1]


def test_rows_of_zero_norm_are_left_out_and_counted(tmp_path, matrix):
    rows = np.random.default_rng(0).standard_normal((2100, 6)).astype(np.float32)
    rows[[3, 700, 2099]] = 0
    store = geomsae.open_store(tmp_path / "s", create=True)
    list(geomsae.convert(matrix(rows), store, Wanted(model="m")))
    list(geomsae.compute_histograms(store))
    hist = store.histograms().isel(dictionary=0)
    assert int(hist["n_excluded"]) == 3
    assert int(hist["n_pairs"]) == 2097 * 2096 // 2
    assert_counts(hist, cosines(rows))


def test_nothing_is_kept_of_a_count_that_breaks_a_law(store, monkeypatch):
    from geomsae.pairs import cpu

    monkeypatch.setattr(cpu, "add_triangle", lambda tally, rows, ask: 0.0)
    with pytest.raises(ConservationError):
        list(geomsae.compute_histograms(store))
    assert len(missing_histograms(store, None, usual_ask())) == 4


def test_a_device_that_is_not_here_is_refused(store):
    with pytest.raises(GeomsaeError, match="tpu"):
        list(geomsae.compute_histograms(store, device="tpu"))


def test_a_distributed_client_in_the_process_is_used(store):
    from distributed import Client, LocalCluster

    settings = {"dashboard_address": "127.0.0.1:0", "n_workers": 2, "threads_per_worker": 1}
    expected = [
        geomsae.cosine_histogram(store.decoder(key).values).compute()["count"].values
        for key in store.decoders
    ]
    with LocalCluster(processes=False, **settings) as cluster, Client(cluster) as client:
        list(geomsae.compute_histograms(store))
        assert sum(client.nthreads().values()) == 2
    assert (store.histograms()["count"].values == np.array(expected)).all()


def test_tail_fractions_are_shares_of_pairs(store):
    list(geomsae.compute_histograms(store))
    hist = store.histograms()
    share = geomsae.tail_fraction(hist, [0.1, 0.25, 0.5])
    assert share.dims == ("dictionary", "threshold")
    exact = [np.abs(cosines(store.decoder(key).values)) for key in hist["dictionary"].values]
    expected = [[(c > t).mean() for t in (0.1, 0.25, 0.5)] for c in exact]
    np.testing.assert_allclose(share.values, expected, atol=1e-3)
    assert geomsae.tail_fraction(hist, 0.25).dims == ("dictionary",)
    assert geomsae.tail_fraction(hist.sel(layer=5)).sel(variant="it").size == 1


def test_tails_of_what_is_not_a_whole_histogram_are_refused(store):
    list(geomsae.compute_histograms(store))
    hist = store.histograms()
    with pytest.raises(ThresholdError, match="nearest"):
        geomsae.tail_fraction(hist, 0.12345)
    with pytest.raises(ValueError, match="all its bins"):
        geomsae.tail_fraction(hist.sel(cosine=slice(0.1, 1)))


def test_the_share_of_no_pairs_is_not_a_number():
    assert np.isnan(geomsae.tail_fraction(geomsae.cosine_histogram(np.ones((1, 3)))).compute())


def test_random_directions_follow_the_exact_law(tmp_path):
    hist = geomsae.cosine_histogram(np.random.default_rng(0).standard_normal((3000, 50))).compute()
    pairs = 3000 * 2999 // 2
    for threshold in (0.1, 0.3, 0.5):
        p = isotropic_tail(50, threshold)
        measured = float(geomsae.tail_fraction(hist, threshold))
        assert abs(measured - p) < 5 * (p * (1 - p) / pairs) ** 0.5


@pytest.mark.parametrize(
    ("d", "threshold", "share"),
    [(2304, 0.1, 1.5055e-6), (3584, 0.1, 1.9678e-9), (3, 0.25, 0.75), (2, 0.5, 2 / 3), (1, 0.5, 1)],
)
def test_the_isotropic_law_has_its_known_values(d, threshold, share):
    assert isotropic_tail(d, threshold) == pytest.approx(share, rel=1e-4)
