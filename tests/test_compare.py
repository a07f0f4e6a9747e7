"""Two dictionaries beside each other, against brute force in float64."""

import struct

import dask
import holoviews as hv
import numpy as np
import pytest
import xarray as xr
import zarr
from conftest import json_of, run_geomsae
from test_features import all_cosines
from test_groups import united

import geomsae
from geomsae.analysis.comparison import comparison_matrix as side_by_side
from geomsae.errors import DecoderError, SelectionError, ThresholdError
from geomsae.pictures.heatmap import draw_matrix, short_names
from geomsae.sources import Wanted
from geomsae.store.guard import seal

THRESHOLDS = (0.3, 0.7, 0.9)


def split(rng, w, times, noise):
    """A wider dictionary in which each feature of another comes several times, a little moved."""
    wide = np.repeat(w, times, axis=0)
    return wide + noise * rng.standard_normal(wide.shape)


@pytest.fixture
def planted():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((300, 48))
    w[7] = 0
    v = split(rng, w[100:], 3, 0.05)
    return w, np.concatenate([v, rng.standard_normal((50, 48))])


@pytest.fixture
def both(tmp_path, matrix, planted):
    store = geomsae.open_store(tmp_path / "store", create=True)
    for name, rows in zip("wv", planted, strict=True):
        path = matrix(rows.astype(np.float32), f"{name}.npy")
        list(geomsae.convert(path, store, Wanted(model=name, layer="3")))
    return store, list(store.decoders)


def assert_summary(found, exact):
    for prefix, mine in (("", exact), ("other_", exact.T)):
        best = np.nanmax(mine[~np.isnan(mine).all(axis=1)], axis=1)
        assert float(found[f"{prefix}mean_max_cosine"]) == pytest.approx(best.mean(), abs=1e-6)
        for threshold in THRESHOLDS:
            at = {"threshold": threshold}
            share = (best >= threshold).mean()
            assert float(found[f"{prefix}share_matched"].sel(at)) == pytest.approx(share)
            unmatched = int(found[f"{prefix}n_unmatched"].sel(at))
            assert unmatched == (best < threshold).sum()
            partners = (np.abs(np.nan_to_num(mine)) >= threshold).sum(axis=1)
            expected = partners[np.nan_to_num(mine, nan=-9).max(axis=1) >= threshold].mean()
            assert float(found[f"{prefix}mean_partners"].sel(at)) == pytest.approx(expected)


def test_the_summary_agrees_with_brute_force(planted):
    w, v = planted
    found = geomsae.compare(w, v, thresholds=THRESHOLDS)
    assert dask.is_dask_collection(found)
    assert_summary(found.compute(), all_cosines(w, v))


def test_a_feature_that_splits_has_several_partners(planted):
    found = geomsae.compare(*planted, thresholds=THRESHOLDS).sel(threshold=0.9).compute()
    assert float(found["mean_partners"]) == pytest.approx(3, abs=0.05)
    assert float(found["other_mean_partners"]) == pytest.approx(1, abs=0.05)
    assert float(found["share_matched"]) == pytest.approx(200 / 299, abs=0.01)
    assert float(found["other_share_matched"]) == pytest.approx(600 / 650, abs=0.01)


def test_a_dictionary_and_itself_match_altogether(planted):
    w = planted[0]
    found = geomsae.compare(w, w).compute()
    assert (found["share_matched"] == 1).all()
    assert float(found["mean_max_cosine"]) == pytest.approx(1, abs=1e-6)
    has = np.arange(len(w))[w.any(axis=1)]
    assert (found["nearest"].values[has, 0] == has).all()


def test_stored_dictionaries_are_compared_where_they_lie(both, planted):
    store, (one, other) = both
    ids = (one, other) if one.startswith("w") else (other, one)
    found = geomsae.compare_stored(store, *ids, thresholds=THRESHOLDS)
    direct = geomsae.compare(
        store.decoder(ids[0]), store.decoder(ids[1]), thresholds=THRESHOLDS
    ).compute()
    for name in direct.data_vars:
        assert (found[name].values == direct[name].values)[~np.isnan(direct[name].values)].all()
    assert_summary(found, all_cosines(*(rows.astype(np.float32) for rows in planted)))
    assert found["dictionary"].item() == ids[0]
    assert found["other_model"].item() == "v"


def test_the_command_prints_every_couple(both, tmp_path, matrix):
    store, ids = both
    third = matrix(np.eye(48, dtype=np.float32), "third.npy")
    list(geomsae.convert(third, store, Wanted(model="third")))
    words = ["compare", *ids, "third", "--matched", "0.7", "--store", store.location]
    rows = json_of(*words, cwd=tmp_path)
    assert [(row["id"], row["other"]) for row in rows] == [
        (ids[0], ids[1]),
        (ids[0], "third"),
        (ids[1], "third"),
    ]
    assert rows[0]["n_pairs"] == 299 * 650
    assert {"share_matched_0.7", "other_n_unmatched_0.7"} < set(rows[0])
    shown, _ = run_geomsae(*words, cwd=tmp_path)
    assert "mean_max_cosine" in shown


def test_directions_of_different_spaces_are_not_compared(both, matrix):
    store, ids = both
    list(geomsae.convert(matrix(np.eye(3), "small.npy"), store, Wanted(model="small")))
    with pytest.raises(DecoderError, match="different spaces"):
        geomsae.compare_stored(store, ids[0], "small")
    with pytest.raises(ThresholdError):
        geomsae.compare(np.eye(3), np.eye(3), thresholds=[0.12345])


def test_neighbours_are_printed_with_the_numbers_that_are_published(both, tmp_path):
    store, ids = both
    list(geomsae.compute_histograms(store, neighbours=3))
    id = ids[0]
    exact = all_cosines(store.decoder(id).values)
    rows = json_of("neighbours", id, "--most", "5", "--store", store.location, cwd=tmp_path)
    assert len(rows) == 5
    for row in rows:
        assert row["cosine"] == pytest.approx(exact[row["feature"], row["neighbour"]], abs=2e-6)
    assert rows[0]["cosine"] == pytest.approx(np.nanmax(exact), abs=2e-6)
    opposite = json_of("neighbours", id, "--opposite", "--store", store.location, cwd=tmp_path)
    assert opposite[0]["cosine"] == pytest.approx(np.nanmin(exact), abs=2e-6)
    mine = json_of("neighbours", id, "--feature", "5", "--store", store.location, cwd=tmp_path)
    assert [row["rank"] for row in mine] == [0, 1, 2, "opposite"]
    assert mine[0]["cosine"] == pytest.approx(np.nanmax(exact[5]), abs=2e-6)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["neighbours", "nobody"], "no dictionary"),
        (["neighbours", "ID", "--feature", "99999"], "no feature 99999"),
        (["neighbours", "ID"], "geomsae histogram"),
        (["compare", "ID", "nobody"], "no dictionary"),
        (["compare", "ID", "ID", "--matched", "0.12345"], "inside a bin"),
        (["compare", "ID", "ID", "--memory", "1MB"], "--memory"),
        (["neighbours", "ID", "--groups", "0.9"], "geomsae histogram"),
        (["neighbours", "COUNTED", "--groups", "0.00001"], "geomsae histogram --pairs 10000"),
        (["neighbours", "COUNTED", "--groups", "7"], "cosine of 7"),
    ],
)
def test_wrong_words_get_one_sentence(both, tmp_path, words, says):
    store, ids = both
    if "--feature" in words or "COUNTED" in words:
        list(geomsae.compute_histograms(store))
    words = [ids[0] if word in ("ID", "COUNTED") else word for word in words]
    _, told = run_geomsae(*words, "--store", store.location, cwd=tmp_path, status=1)
    assert says in told
    assert told.strip().startswith("Error: ")
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["compare", "ID", "ID", "--picture", "p.gif"], ".png or .svg"),
        (["neighbours", "ID", "--groups", "0.9", "--feature", "1"], "--groups"),
        (["neighbours", "ID", "--groups", "0.9", "--opposite"], "--groups"),
    ],
)
def test_words_that_do_not_go_together_are_told_before_anything_is_done(
    both, tmp_path, words, says
):
    store, ids = both
    words = [ids[0] if word == "ID" else word for word in words]
    _, told = run_geomsae(*words, "--store", store.location, cwd=tmp_path, status=2)
    assert says in told


def test_groups_are_printed_with_all_or_the_first_of_their_members(tmp_path, matrix):
    rng = np.random.default_rng(5)
    base = rng.standard_normal((4, 16))
    rows = np.repeat(base, [12, 3, 2, 1], axis=0) + 0.02 * rng.standard_normal((18, 16))
    store = geomsae.open_store(tmp_path / "s", create=True)
    list(geomsae.convert(matrix(rows[rng.permutation(18)]), store, Wanted(model="m")))
    list(geomsae.compute_histograms(store))
    (id,) = store.decoders
    words = ["neighbours", id, "--groups", "0.9", "--store", store.location]
    found = json_of(*words, cwd=tmp_path)
    exact = all_cosines(store.decoder(id).values)
    expected = united(18, np.argwhere(exact >= 0.9).tolist())
    assert {frozenset(row["members"]) for row in found} == expected
    assert [row["size"] for row in found] == [12, 3, 2]
    assert [row["addresses"] for row in found] == [[""] * 12, [""] * 3, [""] * 2]
    shown, told = run_geomsae(*words, cwd=tmp_path)
    assert ", ".join(map(str, found[0]["members"][:8])) + " and 4 more" in shown
    assert "3 groups join 17 features" in told
    assert "neuronpedia" not in shown
    assert len(json_of(*words, "--most", "2", cwd=tmp_path)) == 2
    none = json_of("neighbours", id, "--groups", "1", "--store", store.location, cwd=tmp_path)
    assert none == []


def say_it_is_from(store, id, path):
    """Have a decoder say that it is one of Gemma Scope."""
    attributes = {**store.attributes(id), "repo": "google/gemma-scope-2b-pt-res", "path": path}
    seal(zarr.storage.LocalStore(store.location), id, attributes, ["W_dec", "norm"])


def test_features_have_addresses_where_neuronpedia_shows_them(both, tmp_path):
    store, ids = both
    list(geomsae.compute_histograms(store, neighbours=2))
    id, other = ids
    path = "layer_12/width_16k/average_l0_82/params.npz"
    say_it_is_from(store, id, path)
    start = "https://www.neuronpedia.org/gemma-2-2b/12-gemmascope-res-16k/"
    words = ["--store", store.location]
    rows = json_of("neighbours", id, *words, cwd=tmp_path)
    assert len(rows) == 20
    for row in rows:
        assert row["address"] == f"{start}{row['feature']}"
        assert row["neighbour_address"] == f"{start}{row['neighbour']}"
    for row in json_of("neighbours", id, "--feature", "5", *words, cwd=tmp_path):
        assert row["address"] == f"{start}5"
        assert row["neighbour_address"] == f"{start}{row['neighbour']}"
    shown, _ = run_geomsae("neighbours", id, *words, cwd=tmp_path)
    assert rows[0]["neighbour_address"] in shown
    for row in json_of("neighbours", other, *words, cwd=tmp_path):
        assert row["address"] == row["neighbour_address"] == ""
    assert "address" not in run_geomsae("neighbours", other, *words, cwd=tmp_path)[0]
    grouped = json_of("neighbours", id, "--groups", "0.6", *words, cwd=tmp_path)
    assert grouped
    for row in grouped:
        assert row["addresses"] == [f"{start}{feature}" for feature in row["members"]]


def test_a_feature_without_neighbours_has_no_address(tmp_path, matrix):
    store = geomsae.open_store(tmp_path / "s", create=True)
    rows = np.array([[1, 0], [1, 1], [0, 0]], np.float32)
    list(geomsae.convert(matrix(rows), store, Wanted(model="m")))
    list(geomsae.compute_histograms(store))
    path = "layer_12/width_16k/average_l0_82/params.npz"
    say_it_is_from(store, "m", path)
    words = ["neighbours", "m", "--feature", "2", "--store", store.location]
    for row in json_of(*words, cwd=tmp_path):
        assert (row["neighbour"], row["neighbour_address"]) == (-1, "")


@pytest.fixture
def layers(store):
    """Every two of four dictionaries compared."""
    ids = list(store.decoders)
    couples = [(a, b) for k, a in enumerate(ids) for b in ids[k + 1 :]]
    return store, ids, [geomsae.compare_stored(store, *couple) for couple in couples]


def test_comparisons_fill_both_triangles_of_a_table(layers):
    store, ids, results = layers
    found = side_by_side(results)
    assert found.dims == ("dictionary", "other_dictionary")
    assert found["dictionary"].values.tolist() == ids
    for one in ids:
        assert np.isnan(found.sel(dictionary=one, other_dictionary=one))
        for other in set(ids) - {one}:
            exact = all_cosines(store.decoder(one).values, store.decoder(other).values)
            cell = found.sel(dictionary=one, other_dictionary=other)
            assert cell.item() == pytest.approx(exact.max(axis=1).mean(), abs=1e-6)
            attributes = store.attributes(other)
            assert cell["other_layer"].item() == attributes["layer"]
            assert cell["other_variant"].item() == attributes["variant"]
    assert (side_by_side(results, diagonal=True).values.diagonal() == 1).all()
    assert side_by_side(results, diagonal=True).fillna(1).equals(found.fillna(1))


def test_comparisons_need_the_names_of_their_dictionaries(store):
    one, other = list(store.decoders)[:2]
    plain = geomsae.compare(store.decoder(one).drop_vars("dictionary"), store.decoder(other))
    with pytest.raises(SelectionError, match="assign_coords"):
        side_by_side([plain])
    with pytest.raises(SelectionError, match="nothing"):
        side_by_side([])
    named = plain.assign_coords(dictionary="a", other_dictionary="b")
    found = side_by_side([named])
    assert found.values[0, 1] == pytest.approx(plain["mean_max_cosine"].compute().item())
    assert "layer" not in found.coords


def test_what_is_compared_is_drawn(layers, tmp_path):
    found = side_by_side(layers[2])
    for kind, start in ((".png", b"\x89PNG\r\n"), (".svg", b"<?xml")):
        path = draw_matrix(found, tmp_path / "new" / f"picture{kind}")
        assert path.read_bytes().startswith(start)
    text = path.read_text(encoding="utf-8")
    for number in found.values[~np.isnan(found.values)]:
        assert f"<!-- {number:.2f} -->" in text
    for name in ("pt layer 0", "pt layer 10", "it layer 5", "gpt 64"):
        assert f"<!-- {name} -->" in text
    with pytest.raises(SelectionError, match=r"picture\.pdf"):
        draw_matrix(found, tmp_path / "picture.pdf")


def test_names_in_a_picture_are_what_differs(layers):
    found = side_by_side(layers[2])
    names = ["it layer 5", "pt layer 0", "pt layer 5", "pt layer 10"]
    assert short_names(found) == (names, "gpt 64")
    same = found.assign_coords(layer=("dictionary", [5] * 4))
    assert short_names(same)[0] == ["it L0 45", "pt L0 40", "pt L0 45", "pt L0 50"]
    alike = same.assign_coords(l0_label=("dictionary", ["9"] * 4))
    assert short_names(alike) == (found["dictionary"].values.tolist(), "")
    l0s = same.assign_coords(
        variant=("dictionary", ["pt"] * 4), l0_label=("dictionary", list("1234"))
    )
    assert short_names(l0s) == (["L0 1", "L0 2", "L0 3", "L0 4"], "gpt pt layer 5 64")


@pytest.mark.parametrize("n", [1, 2, 21])
def test_any_number_of_dictionaries_is_drawn(tmp_path, n):
    ids = [f"m/layer_{layer}" for layer in range(n)]
    values = np.full((n, n), 0.5)
    dims = ("dictionary", "other_dictionary")
    found = xr.DataArray(values, dict.fromkeys(dims), dims, "mean_max_cosine")
    found = found.assign_coords(dict.fromkeys(dims, ids))
    hv.extension("matplotlib", "bokeh", logo=False)
    hv.Store.set_current_backend("bokeh")
    path = draw_matrix(found, tmp_path / "p.png")
    assert hv.Store.current_backend == "bokeh"
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    assert 400 < height < 3000
    assert 400 < width < 3000


def test_the_command_draws_all_couples(store, tmp_path):
    ids = list(store.decoders)
    words = ["compare", *ids, "--matched", "0.7", "--store", store.location]
    rows = json_of(*words, "--picture", "all.svg", cwd=tmp_path)
    text = (tmp_path / "all.svg").read_text(encoding="utf-8")
    for row in rows:
        assert f"<!-- {row['mean_max_cosine']:.2f} -->" in text
        assert f"<!-- {row['other_mean_max_cosine']:.2f} -->" in text
    assert "<!-- pt layer 10 -->" in text
