"""Decoders from a Hub on the loopback: only their bytes travel, through links of every kind."""

import json
import signal
import subprocess
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from test_hub import REPO, environment, path_of, process
from test_selection import table

import geomsae
from tests.forks import start
from tests.hub_server import Hub, npz

N, D = 2048, 256


def decoder(seed: int, n: int = N, d: int = D) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def convert(hub: Hub, home: Path, source: str, *words: str, before: str = "") -> str:
    """Run ``convert`` in a process of its own; return what it said, its status first."""
    code = (
        "from geomsae.sources import hub\n"
        f"hub.FIRST_WAIT = 0.001\n{before}\n"
        "from geomsae.cli import main\n"
        f"main({['convert', source, '--store', 'store', *words]})"
    )
    done = process(hub.url, home, "-W", "error", "-c", code)
    assert "Traceback" not in done.stderr
    return f"{done.returncode} {done.stderr}"


def stored(home: Path, id: str) -> bytes:
    return geomsae.open_store(home / "store").decoder(id).values.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_of_an_npz_only_the_decoder_travels_and_nothing_the_second_time(tmp_path, packed):
    rows = {layer: decoder(layer) for layer in (0, 1)}
    files = {path_of(layer, 82): npz(rows[layer], packed=packed) for layer in rows}
    with Hub({REPO: files}) as hub:
        assert convert(hub, tmp_path, REPO).startswith("0")
        assert hub.sent <= 0.51 * sum(map(len, files.values()))
        sent = hub.sent
        assert "0 of 2 dictionaries added" in convert(hub, tmp_path, REPO)
        assert hub.sent == sent
    for layer, values in rows.items():
        id = f"gemma-2-2b/pt/res/layer_{layer}/width_16k/l0_82"
        assert stored(tmp_path, id) == values.tobytes()


@pytest.mark.parametrize("transposed", [False, True])
def test_of_a_safetensors_file_only_the_decoder_travels(tmp_path, transposed):
    rows = decoder(1)
    key = "decoder.weight" if transposed else "W_dec"
    held = {
        key: np.ascontiguousarray(rows.T) if transposed else rows,
        "encoder.weight": rows,
        "encoder.bias": np.zeros(N, np.float32),
    }
    repo = "some/sae-gpt-8k"
    with Hub({repo: {"layers.3/model.safetensors": save(held)}}) as hub:
        assert convert(hub, tmp_path, repo, "--model", "gpt", "--tensor", key).startswith("0")
        assert rows.nbytes < hub.sent < 1.01 * rows.nbytes
    assert stored(tmp_path, "gpt") == rows.tobytes()


def test_with_cache_whole_files_are_kept_as_the_hub_keeps_them(tmp_path):
    rows = decoder(3)
    data = npz(rows)
    with Hub({REPO: {path_of(0, 82): data}}) as hub:
        assert convert(hub, tmp_path, REPO, "--cache").startswith("0")
        assert hub.sent == len(data)
    assert len(list((tmp_path / "hf").rglob("params.npz"))) == 1
    assert stored(tmp_path, "gemma-2-2b/pt/res/layer_0/width_16k/l0_82") == rows.tobytes()


def test_what_passes_is_waited_for_and_a_broken_answer_goes_on_where_it_was(tmp_path):
    rows = decoder(4)
    data = npz(rows)
    with Hub({REPO: {path_of(0, 82): data}}) as hub:
        hub.faults = [(429, {"Retry-After": "0"}), (503, {}), (500, {}), (429, {})]
        hub.cut = len(data) // 3
        assert convert(hub, tmp_path, REPO).startswith("0")
        assert hub.faults == []
        assert hub.cut is None
        assert hub.sent < 0.55 * len(data)
    assert stored(tmp_path, "gemma-2-2b/pt/res/layer_0/width_16k/l0_82") == rows.tobytes()


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ([(503, {})] * 8, "status 503"),
        ([(429, {"Retry-After": "9999"})], "wait of over 300 s"),
        ([(403, {})], "hf auth login"),
    ],
)
def test_what_does_not_pass_is_one_sentence(tmp_path, faults, said):
    with Hub({REPO: {path_of(0, 82): npz(decoder(5, 64, 8))}}) as hub:
        hub.faults = list(faults)
        answer = convert(hub, tmp_path, REPO)
    assert answer.startswith("1")
    assert said in answer.splitlines()[-1]
    assert not (tmp_path / "store").exists()


def test_a_name_that_leads_out_of_the_repository_is_not_read(tmp_path):
    files = {"../../evil.npz": npz(decoder(6, 64, 8)), path_of(0, 82): npz(decoder(7, 64, 8))}
    with Hub({REPO: files}) as hub:
        assert "1 of 1 dictionaries added" in convert(hub, tmp_path, REPO)


CUTS = 40
"""Downloads that are broken off, each at a point of its own."""


@pytest.mark.long
@pytest.mark.parametrize("turned", [False, True])
def test_a_download_broken_off_anywhere_is_gone_on_with(tmp_path, turned):
    rows = decoder(8, 640, 64)
    repo, words, files = REPO, "", {path_of(0, 82): npz(rows)}
    if turned:  # stored so that no row lies in one piece
        held = {"decoder.weight": np.ascontiguousarray(rows.T), "encoder.bias": rows[:, 0].copy()}
        repo, words = "some/turned", ", Wanted(model='m')"
        files = {"w.safetensors": save(held)}
    points = np.random.default_rng(9).integers(0, int(1.02 * rows.nbytes), CUTS).tolist()
    code = f"""
import json, os
from urllib.request import urlopen
import geomsae
from geomsae.errors import LinkError
from geomsae.sources import Wanted, find, hub, tensor
from geomsae.store import layout
hub.TRIES = 1
layout.CHUNK_BYTES = tensor._COPY_BYTES = 1 << 14
offers = find({repo!r}{words})
broken = kept = 0
for number, point in enumerate({points}):
    store = geomsae.open_store(f"store_{{number}}", create=True)
    urlopen(os.environ["HF_ENDPOINT"] + f"/cut/{{point}}").close()
    try:
        list(geomsae.convert(offers, store))
    except LinkError:
        broken += 1
        assert not store.refresh().decoders
        kept += os.path.exists(f"store_{{number}}-work")
        list(geomsae.convert(offers, store))
    assert not os.path.exists(f"store_{{number}}-work")
print(json.dumps([broken, kept]))
"""
    with Hub({repo: files}) as hub:
        done = process(hub.url, tmp_path, "-c", code)
        assert done.returncode == 0, done.stderr
        # What was had is not asked for again, but for the chunk that broke and the headers.
        assert hub.sent < CUTS * (rows.nbytes + 3 * (1 << 14) + 8192)
    broken, kept = json.loads(done.stdout)
    assert broken > 0.9 * CUTS
    assert kept > 0.8 * CUTS  # the others broke among the headers
    checks = set()
    for number in range(CUTS):
        store = geomsae.open_store(tmp_path / f"store_{number}")
        (id,) = store.decoders
        assert store.decoder(id).values.tobytes() == rows.tobytes()
        folder = tmp_path / f"store_{number}" / id / "W_dec"
        made = sorted(path for path in folder.rglob("*") if path.is_file())
        checks.add(tuple((str(p.relative_to(folder)), zlib.crc32(p.read_bytes())) for p in made))
        assert np.allclose(store.norms(id), np.linalg.norm(rows.astype(np.float64), axis=1))
    assert len(checks) == 1


@pytest.mark.long
def test_an_interrupted_run_does_not_fetch_again_what_is_there(tmp_path):
    files = {path_of(layer, 82): npz(decoder(layer, 64, 8)) for layer in range(3)}
    with Hub({REPO: files}) as hub:
        assert convert(hub, tmp_path, REPO, "--layer", "0,1").startswith("0")
        sent = hub.sent
        assert "1 of 3 dictionaries added" in convert(hub, tmp_path, REPO)
        assert hub.sent - sent < 0.7 * sent


@pytest.mark.long
def test_a_newer_revision_is_taken_only_when_asked_for_and_then_beside_the_older(tmp_path):
    old, new = decoder(10, 64, 8), decoder(11, 64, 8)
    id = "gemma-2-2b/pt/res/layer_0/width_16k/l0_82"
    with Hub({REPO: {path_of(0, 82): npz(old)}}) as hub:
        assert "1 of 1" in convert(hub, tmp_path, REPO)
        hub.repositories[REPO] = {path_of(0, 82): npz(new)}
        pinned = hub.commit(REPO)
        sent = hub.sent
        said = convert(hub, tmp_path, REPO)
        assert f"--update takes that of revision {pinned[:7]}" in " ".join(said.split())
        assert hub.sent == sent
        assert "1 of 1" in convert(hub, tmp_path, REPO, "--update")
        assert "0 of 1" in convert(hub, tmp_path, REPO, "--update")
    assert stored(tmp_path, id) == old.tobytes()
    assert stored(tmp_path, f"{id}/rev_{pinned[:7]}") == new.tobytes()


def test_a_dry_run_says_what_would_travel_and_writes_nothing(tmp_path):
    rows = decoder(12)
    files = {path_of(layer, 82): npz(rows) for layer in (0, 1)}
    with Hub({REPO: files}) as hub:
        convert(hub, tmp_path, REPO, "--layer", "0")
        sent = hub.sent
        words = ("-m", "geomsae", "convert", REPO, "--store", "store", "--dry-run", "--json")
        done = process(hub.url, tmp_path, *words)
        assert hub.sent - sent < 0.02 * rows.nbytes
    there, new = json.loads(done.stdout)
    assert (there["there"], there["bytes_read"], there["bytes_written"]) == (True, 0, 0)
    assert (new["there"], new["bytes_read"]) == (False, rows.nbytes)
    assert new["path"] == path_of(1, 82)
    assert list(geomsae.open_store(tmp_path / "store").decoders) == [there["id"]]


@pytest.mark.long
def test_a_dictionary_has_the_name_that_saelens_gives_it(tmp_path):
    files = {path_of(12, l0): npz(decoder(l0, 64, 8)) for l0 in (22, 82, 445)}
    names = {
        "gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_445": 445,
        "gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical": 82,
    }
    with Hub({REPO: files}) as hub:
        for name, l0 in names.items():
            assert "1 of 1" in convert(hub, tmp_path, name)
            id = f"gemma-2-2b/pt/res/layer_12/width_16k/l0_{l0}"
            assert stored(tmp_path, id) == decoder(l0, 64, 8).tobytes()
        said = convert(
            hub, tmp_path, "gemma-scope-2b-pt-res-canonical/layer_99/width_16k/canonical"
        )
    assert said.startswith("1")
    assert "the nearest is layer_9/width_16k/canonical" in " ".join(said.split())


@pytest.mark.long
def test_of_the_whole_published_tree_the_26_canonical_dictionaries_are_fetched(tmp_path):
    rows = [row for row in table("gemma_scope_paths.csv") if row["repo"] == REPO]
    wanted = [row for row in rows if row["width"] == "16k" and row["closest_to_l0_100"] == "1"]
    assert len(wanted) == 26
    files = {row["path"]: b"never read" for row in rows}
    for row in wanted:
        files[row["path"]] = npz(decoder(int(row["layer"]), 2048, 128))
    with Hub({REPO: files}) as hub:
        words = (REPO, "--width", "16k", "--l0", "canonical")
        assert "26 of 26 dictionaries added" in convert(hub, tmp_path, *words)
        assert hub.sent <= 0.51 * sum(len(files[row["path"]]) for row in wanted)
        sent = hub.sent
        assert "0 of 26 dictionaries added" in convert(hub, tmp_path, *words)
        assert hub.sent == sent
    store = geomsae.open_store(tmp_path / "store")
    assert len(store.decoders) == 26
    for row in wanted:
        id = f"gemma-2-2b/pt/res/layer_{row['layer']}/width_16k/l0_{row['average_l0']}"
        values = decoder(int(row["layer"]), 2048, 128)
        assert store.decoder(id).values.tobytes() == values.tobytes()


@pytest.mark.long
def test_several_dictionaries_are_under_way_at_once_within_the_memory_given(tmp_path):
    files = {path_of(layer, 82): npz(decoder(layer, 64, 8)) for layer in range(6)}
    for memory, most in (("500MB", 1), ("1.2GB", 3)):
        home = tmp_path / memory
        home.mkdir()
        with Hub({REPO: files}) as hub:
            hub.patience = 0.05
            assert "6 of 6" in convert(hub, home, REPO, "--memory", memory)
            assert hub.most_at_once <= most
            assert (hub.most_at_once > 1) == (most > 1)
    with Hub({REPO: files}) as hub:
        said = convert(hub, tmp_path, REPO, "--memory", "100MB")
    assert said.startswith("1")
    assert "give it more with --memory" in " ".join(said.split())


def test_two_decoders_that_would_have_one_id_are_both_kept(tmp_path):
    repositories = {
        f"{owner}/gemma-scope-2b-pt-res": {path_of(0, 82): npz(decoder(seed, 64, 8))}
        for seed, owner in enumerate(("google", "other"))
    }
    code = (
        "from geomsae.cli import main\n"
        f"main(['convert', *{list(repositories) * 2}, '--store', 'store'])"
    )
    with Hub(repositories) as hub:
        hub.patience = 0.05
        done = process(hub.url, tmp_path, "-c", code)
        assert hub.sent < 1.7 * sum(
            len(f) for files in repositories.values() for f in files.values()
        )
    assert done.returncode == 0, done.stderr
    assert "2 of 2 dictionaries added" in done.stderr
    store = geomsae.open_store(tmp_path / "store")
    found = {store.decoder(id).values.tobytes() for id in store.decoders}
    assert found == {decoder(seed, 64, 8).tobytes() for seed in (0, 1)}


def until(true: Callable[[], bool]) -> None:
    """Wait for something that another process brings about."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < 40
        time.sleep(0.01)


@pytest.mark.long
def test_an_interrupt_ends_the_waiting_and_keeps_what_was_had(tmp_path):
    rows = decoder(13)
    with Hub({REPO: {path_of(0, 82): npz(rows)}}) as hub:
        code = (
            "from geomsae.store import layout\n"
            "layout.CHUNK_BYTES = 1 << 18\n"
            "from geomsae.cli import main\n"
            "main()"
        )
        hub.patience = 0.1
        waiting = start(
            ["-c", code, "convert", REPO, "--store", "store"],
            env=environment(hub.url, tmp_path),
            cwd=tmp_path,
            stderr=subprocess.PIPE,
        )
        until(lambda: hub.sent > rows.nbytes // 3)
        hub.faults = [(429, {"Retry-After": "60"})] * 3
        until(lambda: len(hub.faults) < 3)
        waiting.send_signal(signal.SIGINT)
        begun = time.monotonic()
        said = waiting.communicate(timeout=30)[1]
        assert time.monotonic() - begun < 10
        assert waiting.returncode == 1
        assert "interrupted" in said
        hub.faults, hub.patience = [], 0.0
        had = hub.sent
        assert "1 of 1" in convert(hub, tmp_path, REPO)
        assert hub.sent - had < 0.75 * rows.nbytes
    assert stored(tmp_path, "gemma-2-2b/pt/res/layer_0/width_16k/l0_82") == rows.tobytes()
