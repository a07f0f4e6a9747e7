"""Which dictionaries are meant: layers, labels and the canonical L0, against published lists."""

import csv
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomsae.dictionary import EMBEDDING, Dictionary
from geomsae.errors import SelectionError
from geomsae.sources import Offer
from geomsae.sources.families import PUBLISHED
from geomsae.sources.selection import (
    canonical,
    parse_layers,
    select_l0,
    select_label,
    select_layers,
)

FACTS = Path(__file__).resolve().parents[2] / "shared" / "facts"


def table(name: str) -> list[dict[str, str]]:
    """The rows of a published list."""
    path = FACTS / name
    if not path.exists():
        pytest.skip(f"the published list {name} is not beside this checkout")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def labels(repo: str, path: str) -> Dictionary:
    """What the first family that fits says of a published file."""
    for family in PUBLISHED:
        groups = family.groups(repo, path)
        if groups is not None:
            return Dictionary(**family.labels_of(groups))
    raise AssertionError(f"no family reads {repo}/{path}")


def offer(name: str, **words: object) -> Offer:
    """An offer that is never opened."""
    return Offer(Dictionary(**{"model": "m", **words}), name, 1, {}, lambda: pytest.fail("opened"))


def offers_by_l0(*published: float, **words: object) -> list[Offer]:
    """One offer for each L0."""
    return [offer(f"{l0}", l0=l0, l0_label=f"{l0:g}", **words) for l0 in published]


def names(offers: list[Offer]) -> list[str]:
    return [offer.name for offer in offers]


@pytest.fixture(scope="module")
def published():
    """Every file of Gemma Scope, as its row and its offer, by repository."""
    repositories = defaultdict(list)
    for row in table("gemma_scope_paths.csv"):
        said = labels(row["repo"], row["path"])
        name = f"{row['repo']}/{row['path']}"
        offered = Offer(said, name, 1, {}, lambda: pytest.fail("opened"))
        repositories[row["repo"]].append((row, offered))
    return repositories


def test_every_published_file_has_the_labels_that_its_names_state(published):
    for row, offered in (entry for entries in published.values() for entry in entries):
        embedding = row["layer"] == "embedding"
        assert offered.labels == Dictionary(
            model=row["model"],
            variant=row["variant"],
            site=row["site"],
            layer=EMBEDDING if embedding else int(row["layer"]),
            width=row["width"],
            l0=float(row["average_l0"]),
            l0_label=row["average_l0"],
        )


def test_the_published_list_is_whole(published):
    assert sum(map(len, published.values())) == 2430


def test_no_two_published_files_share_an_id(published):
    ids = [offered.labels.id for entries in published.values() for _, offered in entries]
    assert len(set(ids)) == len(ids)


def test_labels_of_a_published_file_come_back_from_json(published):
    for offered in (offered for entries in published.values() for _, offered in entries):
        assert Dictionary.from_json(offered.labels.to_json()) == offered.labels


def test_the_canonical_files_are_the_published_ones(published):
    for entries in published.values():
        expected = [offered.name for row, offered in entries if row["closest_to_l0_100"] == "1"]
        assert names(canonical(offered for _, offered in entries)) == expected


def test_every_point_of_the_published_study_is_found(published):
    rows = table("feature_geometry_published.csv")
    assert rows
    for row in rows:
        (found,) = [o for _, o in published[row["repo"]] if o.name.endswith(f"/{row['path']}")]
        assert found.labels.model == row["model"]
        assert found.labels.variant == row["variant"]
        assert found.labels.site == row["site"]
        assert found.labels.layer == int(row["layer"])
        assert found.labels.width == row["width"]
        assert found.labels.l0 == float(row["average_l0"])


@pytest.mark.parametrize(
    "path",
    [
        "config.json",
        "layer_3/width_16k/average_l0_71/params.npz.bak",
        "layer_3/width_16k/average_l0_71/other.npz",
        "layer_3/width_16k/params.npz",
        "layer_/width_16k/average_l0_71/params.npz",
        "deeper/layer_3/width_16k/average_l0_71/params.npz",
    ],
)
def test_a_file_of_no_family_says_nothing(path):
    found = [family.name for family in PUBLISHED if family.groups("gemma-scope-2b-pt-res", path)]
    assert not found


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("12", {12}),
        ("0,5,10", {0, 5, 10}),
        (" 0 , 5 ", {0, 5}),
        ("0-4", {0, 1, 2, 3, 4}),
        ("0-25:5", {0, 5, 10, 15, 20, 25}),
        ("1-6:4", {1, 5}),
        ("3-3", {3}),
        ("0-2,7,20-24:2", {0, 1, 2, 7, 20, 22, 24}),
        ("embedding", {EMBEDDING}),
        ("embedding,0", {EMBEDDING, 0}),
    ],
)
def test_layers_are_read_as_they_are_written(text, layers):
    assert parse_layers(text) == layers


@pytest.mark.parametrize(
    "text",
    ["", ",", "x", "1,", "-1", "1-", "1--2", "1-2-3", "0-4:", "0-4:0", "1.5", "embedding:2", "0x1"],
)
def test_layers_that_cannot_be_read_are_refused_with_how_to_write_them(text):
    with pytest.raises(SelectionError, match=r"cannot be read: write 12, or 0,5,10"):
        parse_layers(text)


@given(first=st.integers(0, 60), more=st.integers(0, 60), step=st.integers(1, 70))
def test_a_span_of_layers_begins_at_its_first_and_keeps_its_step(first, more, step):
    layers = sorted(parse_layers(f"{first}-{first + more}:{step}"))
    assert layers[0] == first
    assert layers[-1] <= first + more < layers[-1] + step
    assert {b - a for a, b in pairwise(layers)} <= {step}


def test_layers_are_selected_and_a_missing_one_is_named_beside_those_there():
    offers = [offer(str(n), layer=n) for n in (EMBEDDING, 0, 1, 2, 25)]
    assert names(select_layers(offers, "0-2:2,25")) == ["0", "2", "25"]
    assert names(select_layers(offers, "embedding")) == ["-1"]
    with pytest.raises(SelectionError, match=r"no layer 3, 26; the layers there: 0 to 25"):
        select_layers(offers, "2,3,26")


def test_labels_are_selected_and_a_missing_one_is_named_beside_those_there():
    offers = [offer(width, width=width) for width in ("16k", "65k", "1m")]
    assert names(select_label(offers, "width", "1m, 16k")) == ["16k", "1m"]
    with pytest.raises(SelectionError, match=r"no width 32k; there is 1m, 16k, 65k"):
        select_label(offers, "width", "16k,32k")


@pytest.mark.parametrize(
    ("l0s", "kept"),
    [
        ((22, 82, 141), 82),
        ((99, 101), 99),
        ((101, 99), 99),
        ((150, 50), 50),
        ((445,), 445),
        ((1, 2, 3), 3),
    ],
)
def test_canonical_is_the_l0_closest_to_100_and_of_two_as_close_the_lower(l0s, kept):
    assert names(canonical(offers_by_l0(*l0s))) == [str(kept)]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=8, unique=True), st.randoms())
def test_canonical_does_not_depend_on_the_order_of_the_offers(l0s, random):
    shuffled = random.sample(l0s, len(l0s))
    assert names(canonical(offers_by_l0(*shuffled))) == names(canonical(offers_by_l0(*l0s)))


def test_canonical_chooses_for_every_layer_and_width_by_itself():
    offers = [
        offer(f"{layer}/{width}/{l0}", layer=layer, width=width, l0=l0, l0_label=str(l0))
        for layer, width, l0s in [(0, "16k", (20, 105)), (0, "65k", (99, 300)), (1, "16k", (7, 8))]
        for l0 in l0s
    ]
    assert names(canonical(offers)) == ["0/16k/105", "0/65k/99", "1/16k/8"]


def test_where_the_l0_is_no_number_everything_is_kept():
    offers = [offer(size, l0_label=size) for size in ("small", "medium", "big")]
    assert names(canonical(offers)) == ["small", "medium", "big"]


def test_an_l0_is_selected_by_word_or_by_label():
    offers = offers_by_l0(22, 82, 141)
    for word in ("", "canonical"):
        assert names(select_l0(offers, word)) == ["82"]
    assert names(select_l0(offers, "all")) == ["22", "82", "141"]
    assert names(select_l0(offers, "141,22")) == ["22", "141"]
    with pytest.raises(SelectionError, match=r"there is no l0 100; there is 22, 82, 141"):
        select_l0(offers, "100")
