"""Every figure shows each dictionary once, under a name of its own."""

from xml.etree import ElementTree

import holoviews as hv
import numpy as np
import pytest

import geomsae
from geomsae.analysis import tail_table
from geomsae.dictionary import LABELS, SIZES
from geomsae.histogram import PROVENANCE, histograms
from geomsae.pictures import write_report
from geomsae.pictures.figures import canonical_only, figures
from geomsae.sources import Wanted

THRESHOLD = 0.1


@pytest.fixture(scope="module")
def hist(tmp_path_factory):
    """Three layers of two variants, with what else may differ: seeds, and an L0 that is a word."""
    folder = tmp_path_factory.mktemp("pictures")
    store = geomsae.open_store(folder / "store", create=True)
    labels = [
        {"variant": variant, "layer": str(layer), "l0": l0, "tag": tag}
        for variant in ("pt", "it")
        for layer in (1, 4, 6)
        for l0, tag in (
            ("40", ""),
            ("90", ""),
            ("40", "seed_1"),
            ("small", "word"),
            ("big", "word"),
        )
    ]
    for number, words in enumerate(labels):
        np.save(folder / "w.npy", np.random.default_rng(number).standard_normal((50, 8)))
        wanted = Wanted(model="m", site="res", width="50", **words)
        list(geomsae.convert(str(folder / "w.npy"), store, wanted))
    list(geomsae.compute_histograms(store))
    found = store.histograms()
    assert found.sizes["dictionary"] == len(labels)
    return found


@pytest.fixture(scope="module")
def drawn(hist):
    """The figures by name, and what each of them shows as curves: (label, x, y)."""
    hv.extension("matplotlib", logo=False)
    table = tail_table(hist, THRESHOLD)
    reference = table[["tail_fraction"]].head(0).rename(columns={"tail_fraction": "reference"})
    shown = {}
    for figure in figures(hist, table, reference.assign(kind=""), THRESHOLD):
        axes = hv.render(figure.draw("matplotlib"), backend="matplotlib").axes[0]
        assert figure.name not in shown
        assert axes.get_xlabel()
        assert axes.get_ylabel()
        shown[figure.name] = [
            (line.get_label(), *map(tuple, line.get_data())) for line in axes.get_lines()
        ]
    return shown


def curves(lines):
    """The lines of a figure by label; no label may come twice."""
    assert len({label for label, *_ in lines}) == len(lines)
    return {label: (x, y) for label, x, y in lines}


def test_each_series_goes_from_layer_to_layer(drawn, hist):
    lines = curves(drawn["share_by_layer_m_res"])
    series = {
        f"{v} 50{rest}"
        for v in ("pt", "it")
        for rest in ("", " seed_1", " word small", " word big")
    }
    assert set(lines) == {*series, "isotropic directions (exact)"}
    share = geomsae.tail_fraction(hist, THRESHOLD)
    for label, l0_label, tag in (("pt 50", "90", ""), ("pt 50 word small", "small", "word")):
        expected = share.sel(variant="pt", l0_label=l0_label, tag=tag)
        assert lines[label] == ((1, 4, 6), tuple(expected.values))


def test_variants_are_compared_like_with_like(drawn, hist):
    names = {name for name in drawn if name.startswith("variants")}
    kinds = ("", "_seed_1", "_word_small", "_word_big")
    assert names == {f"variants_m_res_50{kind}" for kind in kinds}
    share = geomsae.tail_fraction(hist, THRESHOLD)
    for variant, (_, y) in curves(drawn["variants_m_res_50_word_big"]).items():
        assert y == tuple(share.sel(variant=variant, l0_label="big").values)


def test_the_tails_of_several_dictionaries_of_a_layer_are_all_there(drawn):
    lines = curves(drawn["tails_m_pt_res_50"])
    assert {"layer 1", "layer 1 seed_1", "layer 1 word small", "layer 1 word big"} <= set(lines)


def test_l0_is_compared_where_it_alone_differs(drawn):
    lines = curves(drawn["share_by_l0_m_res"])
    assert set(lines) == {f"{v} layer {n} 50" for v in ("pt", "it") for n in (1, 4, 6)}
    assert all(x == (40, 90) for x, _ in lines.values())


def test_the_closest_to_100_is_kept_and_every_l0_that_is_no_number(hist):
    table = tail_table(hist, THRESHOLD)
    table["l0_name"] = table["l0_label"].where(table["l0"].isna(), "")
    kept = canonical_only(table)
    assert len(kept) == 24
    assert set(kept["l0_label"]) == {"40", "90", "small", "big"}
    assert set(kept.loc[kept["tag"] == "", "l0_label"]) == {"90"}


EVIL = "<script>alert(1)<script><img src=x onerror=alert(2)>"


def test_what_names_say_is_shown_and_never_run(tmp_path):
    """No id can hold such a name; the report does not rely on that."""
    labels = {"model": EVIL, "variant": EVIL, "site": EVIL, "width": EVIL, "tag": EVIL}
    rows = [{**labels, "layer": layer, "l0_label": f"{EVIL}{layer}"} for layer in (1, 2)]
    known = {"n_features": 50, "d_model": 8, "l0": np.nan}
    names = (*LABELS, *SIZES, *PROVENANCE)
    hist = histograms(
        [np.full(2000, 2), np.full(2000, 2)],
        [4000, 4000],
        [0, 0],
        [f"</script>{EVIL}{row['layer']}" for row in rows],
        {name: [{**known, **row}.get(name, EVIL) for row in rows] for name in names},
        2000,
    )
    written = write_report(hist, tmp_path / "report", THRESHOLD)
    page = written.page.read_text(encoding="utf-8")
    assert "&lt;img src=x" in page
    assert "<img src=x" not in page
    assert "<script>alert" not in page
    drawings = [path for path in written.figures if path.suffix == ".svg"]
    assert drawings
    for path in drawings:
        names = {element.tag.rpartition("}")[2] for element in ElementTree.parse(path).iter()}
        assert not names & {"script", "img"}
    assert all(path.parent == tmp_path / "report" for path in written.figures)
