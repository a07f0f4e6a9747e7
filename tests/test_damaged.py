"""A damaged store stops no verb with more than a sentence, which names the way out."""

import pytest
from click.testing import CliRunner
from flips import choose_bits, flipped, make_store

from geomsae.cli import main

ONE, OTHER = "gpt/pt/layer_0/width_64/l0_40", "gpt/it/layer_10/width_64/l0_82"
VERBS = {
    "ls": [],
    "tails": [],
    "histogram": ["--pairs", "20"],
    "neighbours": [ONE],
    "compare": [ONE, OTHER],
}


@pytest.fixture(scope="module")
def location(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("damaged"))


def told(verb, location):
    """Run a verb that may fail, but only as it should; return its sentence."""
    result = CliRunner().invoke(main, [verb, *VERBS[verb], "--store", str(location)])
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert result.exit_code in (0, 1)
    sentence = result.stderr.strip().rpartition("\n")[2] if result.exit_code else ""
    assert sentence.startswith("Error: ") or not result.exit_code
    return sentence


@pytest.mark.long
@pytest.mark.parametrize("verb", VERBS)
def test_a_flipped_bit_ends_in_a_sentence_that_names_the_way_out(location, verb):
    for file, bit in choose_bits(location, 39, seed=8):
        with flipped(file, bit):
            sentence = told(verb, location)
        assert not sentence or "geomsae verify --repair" in sentence


def test_a_result_that_is_not_finished_any_more_is_not_counted_for_ever(location):
    metadata = location / ONE / "results" / "histogram_2000_float32" / "zarr.json"
    place = metadata.read_bytes().index(b'"complete"') + 3
    with flipped(metadata, 8 * place):
        assert f"geomsae verify --repair --store {location} {ONE}" in told("histogram", location)
