"""Tail shares at one L0: exact on power laws, never outside what was measured, not misled."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import geomsae
from geomsae import cosine_histogram
from geomsae.analysis.sparsity import GROUP, at_common_l0, share_by_l0, slope_of_l0
from geomsae.analysis.uncertainty import tail_difference, tail_error
from geomsae.errors import SelectionError
from geomsae.study.planted import Plant


def table_of(l0, share, error=None, **labels):
    """A table as `tail_table` gives it, of dictionaries that differ in their L0 alone."""
    columns = {"model": "m", "variant": "pt", "site": "res", "layer": 5, "width": "16k", "tag": ""}
    columns |= {**labels, "l0": l0, "tail_fraction": share}
    if error is not None:
        columns["standard_error"] = error
    names = "/".join(str(columns[name]) for name in GROUP)
    return pd.DataFrame(columns, index=[f"{names}/l0_{one:g}" for one in l0])


def only(table):
    assert len(table) == 1
    return table.iloc[0]


L0 = st.floats(1, 1000).map(lambda l0: round(l0, 3))
LEVELS = st.lists(L0, min_size=1, max_size=6, unique=True)


@given(LEVELS, st.floats(-3, 3), st.floats(1e-8, 1e-3), st.floats(0.5, 2000))
def test_a_power_law_is_read_off_exactly_and_only_inside(levels, power, scale, l0):
    levels = np.array(levels)
    share = scale * (levels / 100) ** power
    row = only(at_common_l0(table_of(levels, share), l0))
    assert row["n_l0"] == levels.size
    if levels.min() <= l0 <= levels.max():
        assert row["tail_fraction"] == pytest.approx(scale * (l0 / 100) ** power, rel=1e-9)
        assert row["l0_low"] <= l0 <= row["l0_high"]
        assert {row["l0_low"], row["l0_high"]} <= {*levels}
        assert row["reason"] == ""
    else:
        assert np.isnan(row["tail_fraction"])
        assert np.isnan(row["standard_error"])
        assert (row["l0_low"], row["l0_high"]) == (levels.min(), levels.max())
        assert "outside" in row["reason"]


@pytest.mark.long
@given(LEVELS, st.data())
def test_a_share_lies_between_its_neighbours_and_is_kept_where_it_was_measured(levels, data):
    shares = data.draw(st.lists(st.floats(1e-9, 1), min_size=len(levels), max_size=len(levels)))
    table = table_of(levels, shares, [share / 10 for share in shares])
    l0 = data.draw(st.floats(min(levels), max(levels)))
    row = only(at_common_l0(table, l0))
    near = table[table["l0"].isin([row["l0_low"], row["l0_high"]])]["tail_fraction"]
    assert near.min() * (1 - 1e-12) <= row["tail_fraction"] <= near.max() * (1 + 1e-12)
    assert row["standard_error"] <= row["tail_fraction"] / 10 * (1 + 1e-12)
    measured = only(at_common_l0(table, levels[0]))
    assert measured["tail_fraction"] == shares[0]
    assert measured["standard_error"] == shares[0] / 10
    assert measured["l0_low"] == measured["l0_high"] == levels[0]


@pytest.mark.long
@given(LEVELS, st.floats(-3, 3), st.randoms())
@settings(max_examples=25)
def test_the_order_of_the_table_does_not_matter(levels, power, random):
    table = table_of(levels, np.array(levels) ** power * 1e-6, np.array(levels) * 1e-9)
    order = [*range(len(levels))]
    random.shuffle(order)
    for function in (share_by_l0, at_common_l0, slope_of_l0):
        pd.testing.assert_frame_equal(function(table), function(table.iloc[order]))


def test_the_error_is_that_of_simulated_neighbours():
    rng = np.random.default_rng(0)
    low, high = rng.normal(4e-4, 2e-5, 20000), rng.normal(1e-4, 3e-6, 20000)
    part = math.log(90 / 50) / math.log(200 / 50)
    simulated = (low ** (1 - part) * high**part).std()
    row = only(at_common_l0(table_of([50, 200], [4e-4, 1e-4], [2e-5, 3e-6]), 90))
    assert row["standard_error"] == pytest.approx(simulated, rel=0.03)
    slopes = np.log(high / low) / math.log(4)
    slope = only(slope_of_l0(table_of([50, 200], [4e-4, 1e-4], [2e-5, 3e-6]), 90))
    assert slope["standard_error"] == pytest.approx(slopes.std(), rel=0.03)
    assert slope["slope"] == pytest.approx(-1)


def test_without_errors_there_is_a_share_but_no_error():
    row = only(at_common_l0(table_of([50, 200], [4e-4, 1e-4]), 100))
    assert row["tail_fraction"] == pytest.approx(2e-4)
    assert np.isnan(row["standard_error"])


def test_a_share_of_nothing_is_measured_but_not_read_between():
    table = table_of([41, 82, 141], [1e-6, 0, 0], 1e-8)
    assert only(at_common_l0(table, 82))["tail_fraction"] == 0
    assert only(at_common_l0(table, 82))["reason"] == ""
    between = only(at_common_l0(table, 60))
    assert np.isnan(between["tail_fraction"])
    assert "L0 82 is 0" in between["reason"]
    assert "is 0" in only(slope_of_l0(table, 60))["reason"]
    unknown = only(at_common_l0(table_of([41, 82], [1e-6, np.nan]), 60))
    assert "L0 82 is not known" in unknown["reason"]


def test_dictionaries_without_an_l0_are_left_out_and_counted():
    some = table_of([50, np.nan, 200, np.nan], [4e-4, 1, 1e-4, 1])
    none = table_of([np.nan, 0.0], [1e-4, 1], layer=6)
    found = at_common_l0(pd.concat([some, none]))
    assert found["n_without_l0"].tolist() == [2, 2]
    assert found["n_l0"].tolist() == [2, 0]
    assert found["tail_fraction"].iloc[0] == pytest.approx(2e-4)
    assert found["reason"].tolist() == ["", "no L0 is known"]
    shares = share_by_l0(pd.concat([some, none]))
    assert shares.index.get_level_values("l0").tolist() == [50, 200]
    assert set(shares["n_without_l0"]) == {2}


def test_of_two_dictionaries_at_one_l0_none_is_chosen():
    table = table_of([50, 50, 200, 400], [4e-4, 5e-4, 1e-4, 5e-5])
    table.index = ["a", "b", "c", "d"]
    row = only(at_common_l0(table, 100))
    assert np.isnan(row["tail_fraction"])
    assert row["reason"] == "a and b have the same L0, 50"
    assert only(at_common_l0(table, 300))["reason"] == ""
    assert len(share_by_l0(table)) == 4


def test_shares_by_l0_are_those_of_groups_with_several():
    several = table_of([141, 41, 82], [1e-4, 3e-4, 2e-4], 1e-6)
    one = table_of([82], [1e-4], 1e-6, layer=6)
    found = share_by_l0(pd.concat([several, one]))
    assert found.index.names == [*GROUP, "l0"]
    assert found["tail_fraction"].tolist() == [3e-4, 2e-4, 1e-4]
    assert found["dictionary"].tolist() == [several.index[number] for number in (1, 2, 0)]
    assert found.xs(5, level="layer")["standard_error"].tolist() == [1e-6] * 3


def test_groups_are_told_apart_by_every_label_even_one_not_known():
    tables = [table_of([50, 200], [4e-4, 1e-4])]
    for label in GROUP:
        other = 6 if label == "layer" else "other"
        tables.append(table_of([50, 200], [8e-4, 2e-4], **{label: other}))
    tables.append(table_of([50, 200], [2e-4, 2e-4], tag=np.nan))
    found = at_common_l0(pd.concat(tables))
    assert len(found) == len(GROUP) + 2
    assert sorted(found["tail_fraction"].round(9)) == [2e-4, 2e-4] + [4e-4] * len(GROUP)


def test_the_slope_is_that_on_either_side():
    table = table_of([50, 100, 200], [4e-4, 2e-4, 4e-4], 1e-6)
    at = {l0: only(slope_of_l0(table, l0)) for l0 in (50, 70, 100, 150, 200, 300)}
    slopes = [at[l0]["slope"] for l0 in (50, 70, 100, 150, 200)]
    np.testing.assert_allclose(slopes, [-1, -1, 0, 1, 1], atol=1e-12)
    assert np.isnan(at[300]["slope"])
    assert "outside" in at[300]["reason"]
    single = only(slope_of_l0(table.iloc[:1], 50))
    assert np.isnan(single["slope"])
    assert single["reason"] == "a single L0 has no slope"


@pytest.mark.parametrize("l0", [0, -1, math.inf, math.nan])
def test_an_l0_that_does_not_exist_is_refused(l0):
    table = table_of([50, 200], [4e-4, 1e-4])
    with pytest.raises(SelectionError, match="positive"):
        at_common_l0(table, l0)
    with pytest.raises(SelectionError, match="positive"):
        slope_of_l0(table, l0)


@pytest.mark.parametrize("name", ["tag", "l0", "tail_fraction"])
def test_a_table_without_a_column_is_refused(name):
    table = table_of([50, 200], [4e-4, 1e-4]).drop(columns=name)
    for function in (share_by_l0, at_common_l0, slope_of_l0):
        with pytest.raises(SelectionError, match=name):
            function(table)


def test_an_empty_table_gives_an_empty_answer():
    empty = table_of([50, 200], [4e-4, 1e-4]).iloc[:0]
    found = at_common_l0(empty)
    assert found.empty
    assert "reason" in found
    assert share_by_l0(empty).empty


def test_a_store_is_read_at_one_l0(store):
    list(geomsae.compute_histograms(store))
    found = at_common_l0(geomsae.tail_table(store.histograms()), 45)
    assert found.index.names == list(GROUP)
    assert found["n_l0"].tolist() == [1] * 4
    measured = found.xs(5, level="layer")
    assert (measured["tail_fraction"] > 0).all()
    assert found.xs(0, level="layer")["reason"].str.contains("outside").all()


def test_unlike_sparsity_misleads_and_one_l0_does_not():
    """Two models whose features cluster alike at equal L0, but published at different ones."""
    published = {"sparse": (22, 41, 176), "dense": (24, 82, 141)}
    rows, errors = [], {}
    for model, levels in published.items():
        for l0 in levels:
            hist = cosine_histogram(Plant("pt", 12, "2k", 2048, l0).directions(), thresholds=[0.1])
            found = tail_error(hist.compute()).isel(threshold=0)
            errors[model, l0] = found
            share, error = (float(found[name]) for name in ("tail_fraction", "standard_error"))
            rows.append(table_of([l0], share, error, model=model))
    naive = tail_difference(errors["sparse", 41], errors["dense", 82])
    assert naive["log_ratio_lower"] > 0.1

    matched = at_common_l0(pd.concat(rows))
    assert (matched["reason"] == "").all()
    truth = Plant("pt", 12, "2k", 2048, 100).tail_fraction(0.1)
    apart = matched["tail_fraction"] - truth
    assert (apart.abs() < 2 * matched["standard_error"]).all()
    between = abs(math.log(matched["tail_fraction"].iloc[0] / matched["tail_fraction"].iloc[1]))
    assert between < 0.1 < naive["log_ratio"]
