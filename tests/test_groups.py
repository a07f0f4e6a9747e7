"""Groups of features against a union of sets over every pair, and their Neuronpedia addresses."""

import numpy as np
import pytest
import xarray as xr
from test_features import all_cosines

import geomsae
from geomsae.analysis.groups import groups
from geomsae.errors import SelectionError
from geomsae.sources.neuronpedia import neuronpedia_address, neuronpedia_id
from geomsae.sources.releases import published


def united(n, joined):
    """The sets of two or more that pairs unite: each pair melts the sets of its members."""
    home = {number: {number} for number in range(n)}
    for a, b in joined:
        if home[a] is not home[b]:
            home[a] |= home[b]
            home.update(dict.fromkeys(home[b], home[a]))
    return {frozenset(members) for members in home.values() if len(members) > 1}


def clustered(seed, n=120, d=8):
    """Rows around a few directions, some turned about, one of no direction."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((10, d))[rng.integers(0, 10, n)]
    rows = rows + rng.uniform(0.1, 0.9, (n, 1)) * rng.standard_normal((n, d))
    rows[rng.random(n) < 0.2] *= -1
    rows[n // 2] = 0
    return rows


def sets_of(found):
    members = found["feature"].values
    return [
        frozenset(members[found["group_of"].values == group].tolist())
        for group in found["group"].values
    ]


@pytest.mark.parametrize("sign", ["similar", "both"])
@pytest.mark.parametrize("threshold", [0.75, 0.9, 0.97])
@pytest.mark.parametrize("seed", range(4))
def test_groups_are_the_unions_of_all_pairs(seed, threshold, sign):
    w = clustered(seed)
    exact = all_cosines(w)
    merit = np.abs(exact) if sign == "both" else exact
    assert not (np.abs(merit - threshold) < 1e-6).any()
    joined = [(a, b) for a, b in np.argwhere(merit >= threshold).tolist() if a < b]
    pairs = geomsae.cosine_histogram(w, pairs=5000).compute()
    found = groups(pairs, threshold, len(w), sign=sign)
    sets = sets_of(found)
    assert set(sets) == united(len(w), joined)
    assert len(set(sets)) == len(sets) >= 1
    assert found["size"].values.tolist() == [len(members) for members in sets]
    assert sorted(found["size"].values, reverse=True) == found["size"].values.tolist()
    assert found["share_grouped"].item() == sum(map(len, sets)) / len(w)
    for group, members in enumerate(sets):
        inside = merit[np.ix_(sorted(members), sorted(members))]
        largest = found["largest_cosine"].values[group]
        assert largest == pytest.approx(np.nanmax(inside), abs=2e-6)
        within = sum(a in members for a, _ in joined)
        assert found["n_pairs"].values[group] == within
    for group in sets:
        assert len(w) // 2 not in group
    assert found["feature"].dtype == found["group_of"].dtype == found["size"].dtype == np.int64


def test_pairs_that_are_not_all_are_enough_where_they_reach_below():
    w = clustered(7)
    whole = geomsae.cosine_histogram(w, pairs=10_000).compute()
    cosines = whole["top_similar_cosine"].values
    beyond = int((cosines >= 0.9).sum())
    assert beyond > 5
    enough = geomsae.cosine_histogram(w, pairs=beyond + 1).compute()
    assert groups(enough, 0.9).equals(groups(whole, 0.9))
    short = geomsae.cosine_histogram(w, pairs=beyond).compute()
    with pytest.raises(SelectionError, match=f"geomsae histogram --pairs {10 * beyond}'"):
        groups(short, 0.9)
    # A pair as far out as the last one kept may have been left out.
    with pytest.raises(SelectionError, match="others may"):
        groups(whole.isel(pair=slice(0, 4)), float(cosines[3]))


def test_all_pairs_kept_are_enough_however_high_they_reach():
    alike = np.ones((4, 3)) + 1e-3 * np.random.default_rng(0).standard_normal((4, 3))
    six = geomsae.cosine_histogram(alike, pairs=6).compute()
    with pytest.raises(SelectionError, match="others may"):
        groups(six, 0.9)
    seven = geomsae.cosine_histogram(alike, pairs=7).compute()
    assert sets_of(groups(seven, 0.9)) == [frozenset(range(4))]


def test_a_chain_has_fewer_pairs_than_a_cluster():
    turned = np.deg2rad([0, 20, 40, 60, 150, 152, 154, 156])
    w = np.stack([np.cos(turned), np.sin(turned)], axis=1)
    found = groups(geomsae.cosine_histogram(w, pairs=100), np.cos(np.deg2rad(21)))
    assert found["size"].values.tolist() == [4, 4]
    assert found["n_pairs"].values.tolist() == [6, 3]  # the more similar first


def test_no_group_is_an_empty_dataset_with_its_labels():
    pairs = geomsae.cosine_histogram(np.eye(5), pairs=100).assign_coords(model="m", layer=3)
    found = groups(pairs, 0.5, 5)
    assert found.sizes == {"group": 0, "member": 0}
    assert found["share_grouped"].item() == 0
    assert (found["model"].item(), found["layer"].item()) == ("m", 3)
    assert list(found[["feature"]].to_dataframe()) == ["feature", "model", "layer", "group_of"]


@pytest.mark.parametrize(
    ("threshold", "words", "says"),
    [
        (0, {}, "cosine of 0"),
        (1.5, {}, "cosine of 1.5"),
        (float("nan"), {}, "cosine of nan"),
        (0.5, {"sign": "other"}, "similar, both"),
        (0.5, {"n_features": 1}, "1 features end before it"),
    ],
)
def test_what_cannot_be_grouped_is_refused(threshold, words, says):
    pairs = geomsae.cosine_histogram(np.array([[1, 0], [1, 0.1]]), pairs=9).compute()
    with pytest.raises(SelectionError, match=says):
        groups(pairs, threshold, **words)


def test_groups_need_pairs_of_one_dictionary():
    with pytest.raises(SelectionError, match="top_similar"):
        groups(geomsae.cosine_histogram(np.eye(3)), 0.5)
    with pytest.raises(SelectionError, match="no pairs are kept"):
        groups(
            xr.Dataset(
                {
                    "top_similar": (("pair", "member"), np.zeros((0, 2), np.int64)),
                    "top_similar_cosine": ("pair", np.zeros(0)),
                }
            ),
            0.5,
        )
    crossed = geomsae.cosine_histogram(np.eye(3), np.eye(3), pairs=100).compute()
    with pytest.raises(SelectionError, match="two dictionaries"):
        groups(crossed, 0.5)


SCOPE = "google/gemma-scope-9b-pt-res"
LLAMA = "fnlp/Llama3_1-8B-Base-LXA-8x"


@pytest.mark.parametrize(
    ("repo", "path", "name"),
    [
        # one name; the file, and its folder
        (SCOPE, "layer_0/width_131k/average_l0_30/params.npz", "0-gemmascope-res-131k__l0-30"),
        (SCOPE, "layer_0/width_131k/average_l0_30", "0-gemmascope-res-131k__l0-30"),
        # two names, one of them another dictionary's
        (SCOPE, "layer_20/width_131k/average_l0_114/params.npz", "20-gemmascope-res-131k"),
        # two names: the canonical one
        (SCOPE, "layer_1/width_16k/average_l0_69/params.npz", "1-gemmascope-res-16k"),
        # one name, another dictionary's
        (SCOPE, "layer_2/width_16k/average_l0_8/params.npz", ""),
        # the file itself has a name
        (
            "Goodfire/Llama-3.1-8B-Instruct-SAE-l19",
            "Llama-3.1-8B-Instruct-SAE-l19.pth",
            "19-resid-post-gf",
        ),
        # further down in the folder
        (LLAMA, "Llama3_1-8B-Base-L0A-8x/checkpoints/final.safetensors", "0-llamascope-att-32k"),
        (LLAMA, "Llama3_1-8B-Base-L0A-8x/checkpoints/step_9.safetensors", ""),
        ("google/gemma-scope-2b-pt-res", "layer_0/width_131k/average_l0_30/params.npz", ""),
        (SCOPE, "", ""),
        ("", "layer_0/width_131k/average_l0_30/params.npz", ""),
    ],
)
def test_a_dictionary_has_the_name_that_is_known_or_none(repo, path, name):
    models = {SCOPE: "gemma-2-9b/", LLAMA: "llama3.1-8b/"}
    name = name and models.get(repo, "llama3.1-8b-it/") + name
    assert neuronpedia_id(repo, path) == name
    address = f"https://www.neuronpedia.org/{name}/16383" if name else ""
    assert neuronpedia_address(repo, path, 16383) == address
    assert neuronpedia_address(repo, path, -1) == ""


def test_every_name_of_the_table_is_given_for_its_own_dictionary_alone():
    known = {row.neuronpedia_id: (row.repo, row.path) for row in published()}
    given = {neuronpedia_id(row.repo, row.path) for row in published()}
    places = {(row.repo, row.path) for row in published()}
    assert len(given - {""}) == len(places) - 1  # one place has no name but another's
    for repo, path in places:
        name = neuronpedia_id(repo, path)
        assert not name or known[name] == (repo, path)
        assert neuronpedia_id(repo, f"{path}/params.npz") == name
