"""The study's questions, put to numbers whose answers are known."""

import numpy as np
import pandas as pd
import pytest

from geomsae.study.conclusions import COLUMNS, conclusions, four_columns
from geomsae.study.published import published_points


def table_of(share):
    """A table of tail shares of every studied layer at several L0."""
    rows = {}
    for point in published_points():
        for l0 in {point.l0, point.canonical_l0, 20, 400}:
            labels = point._labels(l0)
            rows[labels.id] = {
                **labels.coordinates(),
                "n_features": 16384,
                "d_model": point.d_model,
                "n_pairs": 134_209_536,
                "n_tail": 1,
                "tail_fraction": share(labels),
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def planted(labels):
    """Truth at an L0 of 100 that depends on the layer alone, times a power of L0."""
    hump = np.exp(-(((labels.layer - 12) / 8) ** 2))
    return (1e-3 + 1e-2 * hump) * (labels.l0 / 100) ** -0.8


def held(columns):
    return {(c.column, c.claim.partition(":")[0]): c.holds for c in conclusions(columns)}


HEAVY, MIDDLE, TUNED = (
    "heavier than random",
    "clustered in the middle layers",
    "tuning makes the middle layer more uniform",
)


def test_the_published_figures_are_one_column_and_answer_for_themselves():
    columns = four_columns(table_of(planted))
    assert list(columns["published"]) == [p.tail_fraction for p in published_points()]
    assert columns["common_l0"].isna().all()
    answers = held(columns)
    assert answers["common_l0", HEAVY] is None
    assert answers["published", HEAVY] is True


def test_only_the_common_l0_sees_through_a_sparsity_that_differs():
    columns = four_columns(table_of(planted), 100.0)
    answers = held(columns)
    # Tuned and pretrained are the same at equal L0; the published pair differs in L0 alone.
    assert answers["measured", TUNED] is True
    at_one = columns["common_l0"]
    middle = columns[(columns["model"] == "gemma-2-9b") & (columns["layer"] == 20)]
    assert middle["common_l0"].iloc[0] == pytest.approx(middle["common_l0"].iloc[1], rel=1e-9)
    expected = [planted(point._labels(100)) for point in published_points()]
    np.testing.assert_allclose(at_one, expected, rtol=1e-9)
    assert answers["common_l0", MIDDLE] is True


def test_conclusions_follow_the_numbers_and_not_the_study():
    flat = held(four_columns(table_of(lambda _: 1e-9), 100.0))
    assert flat["measured", HEAVY] is False
    assert flat["measured", MIDDLE] is False
    rising = held(four_columns(table_of(lambda labels: 1e-3 + 1e-4 * labels.layer), 100.0))
    assert rising["common_l0", HEAVY] is True
    assert rising["common_l0", MIDDLE] is False
    doubled = table_of(lambda labels: 1e-3 * (1 + (labels.variant == "it")))
    tuned = held(four_columns(doubled, 100.0))
    assert tuned["common_l0", TUNED] is False


def test_what_is_missing_is_not_answered():
    table = table_of(planted)
    columns = four_columns(table[table["layer"] != 3], 100.0)
    assert held(columns)["measured", HEAVY] is None
    assert "1 of 26 layers" in conclusions(columns)[1].because
    assert set(columns.columns) >= {*COLUMNS, "uncertainty", "isotropic"}
    empty = four_columns(table.iloc[:0])
    assert held(empty)["measured", TUNED] is None


def test_two_of_the_published_dictionaries_are_not_canonical():
    differ = [p for p in published_points() if p.l0 != p.canonical_l0]
    assert [(p.layer, p.l0, p.canonical_l0) for p in differ] == [(12, 41, 82), (20, 11, 68)]
