"""Repositories of the Hub, served on the loopback: listed, pinned, fetched once, or refused.

The client reads its environment when it is imported, so every question is put in a new process.
"""

import json
import os
import socket
import subprocess
import time
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest

import geomsae
from geomsae.study.published import published_points
from tests.forks import start
from tests.hub_server import Hub, npz

REPO = "google/gemma-scope-2b-pt-res"
L0S = {0: (13, 105, 226), 1: (82, 141), 12: (22, 445)}
CANONICAL = {0: 105, 1: 82, 12: 22}
ROOT = Path(__file__).resolve().parents[1]


def path_of(layer: int, l0: int) -> str:
    return f"layer_{layer}/width_16k/average_l0_{l0}/params.npz"


def id_of(layer: int, l0: int) -> str:
    return f"gemma-2-2b/pt/res/layer_{layer}/width_16k/l0_{l0}"


def weights(layer: int, l0: int) -> np.ndarray:
    """A tiny decoder, another one for each file."""
    return np.random.default_rng([layer, l0]).standard_normal((24, 5)).astype(np.float32)


def params(layer: int, l0: int) -> bytes:
    """A file as Gemma Scope lays it out."""
    return npz(weights(layer, l0))


@pytest.fixture
def scope() -> dict[str, bytes]:
    """The files of a small Gemma Scope."""
    files = {path_of(layer, l0): params(layer, l0) for layer, l0s in L0S.items() for l0 in l0s}
    return {"README.md": b"# Gemma Scope", ".gitattributes": b"", **files}


def environment(url: str, home: Path) -> dict[str, str]:
    """This process's environment, with a Hub and a cache of one's own, and no way to another."""
    own = {name: text for name, text in os.environ.items() if not name.startswith(("HF_", "HUGG"))}
    return {
        **own,
        "HF_ENDPOINT": url,
        "HF_HOME": str(home / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
    }


def process(url: str, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in that environment."""
    pipe = subprocess.PIPE
    command = start(words, stdout=pipe, stderr=pipe, env=environment(url, home), cwd=home)
    said = command.communicate(timeout=150)
    return subprocess.CompletedProcess(words, command.returncode, *said)


def run(code: str, url: str, home: Path) -> object:
    """What an expression over the names of the prelude gives, through JSON."""
    prelude = (
        "import json, geomsae\n"
        "from geomsae.errors import GeomsaeError\n"
        "from geomsae.sources import Wanted, find, hub\n"
        "from geomsae.study import published\n"
        "hub.FIRST_WAIT = 0.001\n"
        "def ids(source, **words):\n"
        "    return [offer.labels.id for offer in find(source, Wanted(**words))]\n"
        "def told(action):\n"
        "    try: action()\n"
        "    except GeomsaeError as error: return type(error).__name__, str(error)\n"
    )
    done = process(url, home, "-c", f"{prelude}print(json.dumps({code}))")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_ls_lists_the_canonical_dictionaries_as_json_and_fetches_no_file(scope, tmp_path):
    with Hub({REPO: scope}) as hub:
        done = process(hub.url, tmp_path, "-m", "geomsae", "ls", REPO, "--json")
        assert hub.sent == 0
    assert done.returncode == 0, done.stderr
    shared = {"model": "gemma-2-2b", "variant": "pt", "site": "res", "width": "16k", "tag": ""}
    expected = [
        {
            **shared,
            "layer": layer,
            "l0": l0,
            "l0_label": str(l0),
            "path": path_of(layer, l0),
            "bytes": len(scope[path_of(layer, l0)]),
        }
        for layer, l0 in CANONICAL.items()
    ]
    listed = json.loads(done.stdout)
    assert [{name: row[name] for name in expected[0]} for row in listed] == expected


def test_layers_and_l0_select_and_what_is_not_there_is_named(scope, tmp_path):
    with Hub({REPO: scope}) as hub:
        answers = run(
            f"(ids({REPO!r}, layer='0-12:12'), ids({REPO!r}, layer='1', l0='all'),"
            f" ids({REPO!r}, l0='445'), told(lambda: ids({REPO!r}, layer='0,7')),"
            f" told(lambda: ids({REPO!r}, width='65k')), told(lambda: ids({REPO!r}, site='mlp')))",
            hub.url,
            tmp_path,
        )
    assert answers[0] == [id_of(0, 105), id_of(12, 22)]
    assert answers[1] == [id_of(1, 82), id_of(1, 141)]
    assert answers[2] == [id_of(12, 445)]
    assert answers[3] == ["SelectionError", "there is no layer 7; the layers there: 0 to 12"]
    assert answers[4] == ["SelectionError", "there is no width 65k; there is 16k"]
    assert answers[5] == ["SelectionError", "there is no site mlp; there is res"]


def test_an_answer_in_several_pages_is_read_whole(scope, tmp_path):
    with Hub({REPO: scope}, page=4) as hub:
        everything = run(f"ids({REPO!r}, l0='all')", hub.url, tmp_path)
    assert sorted(everything) == sorted(id_of(layer, l0) for layer in L0S for l0 in L0S[layer])


def test_convert_stores_decoders_bit_for_bit_at_a_pinned_revision_and_fetches_once(scope, tmp_path):
    words = ("-m", "geomsae", "convert", REPO, "--layer", "0,1", "--store", "store")
    size = len(scope[path_of(0, 105)]) + len(scope[path_of(1, 82)])
    sent = 0
    with Hub({REPO: scope}) as hub:
        for added in (2, 0):
            done = process(hub.url, tmp_path, *words)
            assert done.returncode == 0, done.stderr
            assert f"{added} of 2 dictionaries added" in done.stderr
            sent = sent or hub.sent
            assert 0 < hub.sent == sent < 2 * size
        pinned = hub.commit(REPO)
    store = geomsae.open_store(tmp_path / "store")
    assert list(store.decoders) == [id_of(0, 105), id_of(1, 82)]
    for layer, l0 in ((0, 105), (1, 82)):
        decoder = store.decoder(id_of(layer, l0))
        assert decoder.dtype == np.float32
        assert decoder.values.tobytes() == weights(layer, l0).tobytes()
        attributes = store.attributes(id_of(layer, l0))
        assert len(attributes["revision"]) == 40
        told = {name: attributes[name] for name in ("repo", "revision", "path", "tensor")}
        path = path_of(layer, l0)
        assert told == {"repo": REPO, "revision": pinned, "path": path, "tensor": "W_dec"}


def test_a_download_that_breaks_off_leaves_nothing_half_behind(scope, tmp_path):
    with Hub({REPO: scope}) as hub:
        hub.cut = 1000
        code = (
            "[(told(offer.open), [b.tolist() for b in offer.open().blocks(99)])"
            f" for offer in find({REPO!r}, Wanted(layer='1'))]"
        )
        ((failure, blocks),) = run(code, hub.url, tmp_path)
        assert hub.cut is None
    assert failure is None or (failure[0] == "SourceError" and "\n" not in failure[1])
    assert np.array_equal(np.array(blocks[0], np.float32), weights(1, 82))


def test_the_hub_of_these_tests_sends_parts_of_a_file(scope):
    path = path_of(1, 82)
    with Hub({REPO: scope}) as hub:
        for asked, part in (("7-11", scope[path][7:12]), ("2000-", scope[path][2000:])):
            request = Request(f"{hub.url}/{REPO}/resolve/main/{path}")
            request.add_header("Range", f"bytes={asked}")
            with urlopen(request) as answer:
                assert answer.status == 206
                assert answer.read() == part


def test_an_older_revision_is_fetched_as_it_was_and_a_missing_one_is_named(scope, tmp_path):
    path = path_of(1, 82)
    with Hub({REPO: dict(scope)}) as hub:
        older = hub.commit(REPO)
        hub.repositories[REPO] |= {path: params(99, 82), path_of(1, 100): params(1, 100)}
        assert hub.commit(REPO) != older
        values, missing = run(
            f"([[b.tolist() for b in offer.open().blocks(99)] for offer in"
            f" find({REPO!r}, Wanted(layer='1', revision={older!r}))],"
            f" told(lambda: ids({REPO!r}, revision='v9')))",
            hub.url,
            tmp_path,
        )
    assert np.array_equal(np.array(values[0][0], np.float32), weights(1, 82))
    assert missing == ["SourceError", f"{REPO} has no revision 'v9'"]


def test_refusals_are_one_sentence_each(scope, tmp_path):
    refusals = {
        "refused/gated": (401, "GatedRepo"),
        "refused/missing": (404, "RepoNotFound"),
        "refused/down": (503, ""),
        "refused/broken": (500, ""),
        "refused/forbidden": (403, ""),
        "refused/too_many": (429, ""),
    }
    said = {
        "refused/gated": "is gated: accept its terms on its page",
        "refused/missing": "the Hub has no repository refused/missing",
        "refused/down": "status 503",
        "refused/broken": "status 500",
        "refused/forbidden": "status 403",
        "refused/too_many": "status 429",
        "other/unknown": "the Hub has no repository other/unknown",
        "google/gemma-scope-2b-pt-rez": "is google/gemma-scope-2b-pt-res meant?",
        "other/text": "other/text has no file of the formats .safetensors, .npz, .npy",
    }
    with Hub({"other/text": {"README.md": b""}}, refusals) as hub:
        code = f"{{repo: told(lambda: find(repo)) for repo in {list(said)}}}"
        answers = run(code, hub.url, tmp_path)
    for repo, words in said.items():
        kind, message = answers[repo]
        assert kind in {"SourceError", "LinkError"}
        assert words in message
        assert repo in message
        assert "\n" not in message


def test_a_file_that_is_listed_and_then_refused_is_explained(scope, tmp_path):
    refusals = {f"{REPO}/file": (401, "GatedRepo"), "other/moved/file": (404, "EntryNotFound")}
    with Hub({REPO: scope, "other/moved": scope}, refusals) as hub:
        gated, moved = run(
            f"(told(find({REPO!r})[0].open),"
            " told(find('other/moved', Wanted(model='m', layer='1'))[0].open))",
            hub.url,
            tmp_path,
        )
    assert [kind for kind, _ in (gated, moved)] == ["SourceError"] * 2
    assert gated[1].startswith(f"{REPO} is gated: ")
    assert moved[1].startswith("other/moved no longer has a file")
    assert "\n" not in gated[1] + moved[1]


def test_a_hub_that_cannot_be_reached_ends_convert_at_once_with_a_sentence(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        begun = time.monotonic()
        done = process(url, tmp_path, "-m", "geomsae", "convert", REPO, "--store", "store")
    assert time.monotonic() - begun < 20
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: the Hub cannot be reached for {REPO}: ")
    assert not (tmp_path / "store").exists()


@pytest.mark.long
def test_reproduce_goes_from_the_hub_to_measured_beside_published_and_at_one_l0(tmp_path):
    points = published_points()
    repositories: dict[str, dict[str, bytes]] = {point.repo: {} for point in points}
    for point in points:
        other_side = 500 if max(point.l0, point.canonical_l0) < 100 else 9
        for l0 in {point.l0, point.canonical_l0, other_side}:
            repositories[point.repo][path_of(point.layer, l0)] = params(point.layer, l0)
    smaller = (
        "from geomsae.study import published\n"
        "published.RANDOM_SETS = ('random:24x5',)\n"
        "from geomsae.cli import main\n"
        "main(['reproduce', '--l0-matched', '--json'])"
    )
    with Hub(repositories) as hub:
        done = process(hub.url, tmp_path, "-W", "error", "-c", smaller)
        assert done.returncode == 0, done.stderr
        assert hub.sent < (34 + 32) * 2 * len(params(0, 0))
        offered = run("[o.labels.id for o in published.published_offers()]", hub.url, tmp_path)
    store = geomsae.open_store(tmp_path / "store")
    studied = {point.labels.id for point in points} | {point.canonical.id for point in points}
    assert len(studied) == 34
    assert set(offered) == studied | {f"random/gaussian/16384x{d}_seed_0" for d in (2304, 3584)}
    assert {*studied, "random/gaussian/24x5_seed_0"} < set(store.decoders)
    assert len(store.decoders) == 34 + 32 + 1
    shares = geomsae.tail_fraction(store.histograms())
    page = (tmp_path / "store-report" / "report.html").read_text()
    assert "<th>published</th>" in page
    for row, point in zip(json.loads(done.stdout), points, strict=True):
        measured = float(shares.sel(dictionary=point.labels.id))
        assert row["id"] == point.labels.id
        assert row["published"] == point.tail_fraction
        assert row["measured"] == pytest.approx(measured)
        canonical = float(shares.sel(dictionary=point.canonical.id))
        assert row["canonical"] == pytest.approx(canonical)
        assert 0 < row["common_l0"] < 1
        shown = page[page.index(f"<td>{point.labels.id}</td>") :].partition("</tr>")[0]
        assert f"<td>{measured:.4g}</td>" in shown
        assert f"<td>{point.tail_fraction:.4g}</td>" in shown
    answers = [line for line in done.stderr.splitlines() if "hold" in line]
    assert len(answers) == 12
    assert any(line.startswith("common_l0: holds - heavier than random") for line in answers)
    names = {path.stem for path in (tmp_path / "store-report").glob("*.png")}
    assert {"share_by_layer_gemma-2-2b_res", "variants_gemma-2-9b_res_16k"} <= names


@pytest.mark.long
def test_a_study_of_ones_own_goes_the_whole_way(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    repositories = {}
    for seed, variant in enumerate(("pt", "it")):
        files = {}
        for layer in range(3):
            rows = np.random.default_rng([seed, layer]).standard_normal((24, 5), np.float32)
            path = f"resid_post_all/layer_{layer}_width_16k_l0_small/params.safetensors"
            files[path] = safetensors.save({"w_dec": rows, "w_enc": rows.T.copy()})
        repositories[f"google/gemma-scope-2-1b-{variant}"] = files
    with Hub(repositories) as hub:
        words = [*repositories, "--site", "res", "--tag", "all", "--l0", "small"]
        done = process(hub.url, tmp_path, "-m", "geomsae", "study", *words)
    assert done.returncode == 0, done.stderr
    hist = geomsae.open_store(tmp_path / "store").histograms()
    assert hist.sel(model="gemma-3-1b", variant="it", layer=[0, 1, 2]).sizes["dictionary"] == 3
    names = {path.stem for path in (tmp_path / "store-report").glob("*.png")}
    assert "variants_gemma-3-1b_res_16k_all_small" in names, names


def test_reproduce_without_a_network_is_one_sentence(tmp_path):
    done = process("http://127.0.0.1:9", tmp_path, "-m", "geomsae", "reproduce")
    assert done.returncode == 1
    assert done.stderr.strip().startswith("Error: the Hub cannot be reached for google/")
    assert "\n" not in done.stderr.strip()
    assert not (tmp_path / "store").exists()
