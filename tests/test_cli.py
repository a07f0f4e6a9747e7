import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from conftest import json_of, run_geomsae

import geomsae
from geomsae.cli import main


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A good file, and files that are wrong in many ways."""
    tmp_path = tmp_path_factory.mktemp("files")
    rows = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    np.save(tmp_path / "good.npy", rows)
    np.save(tmp_path / "flat.npy", rows[0])
    np.save(tmp_path / "whole.npy", np.ones((4, 4), int))
    np.savez(tmp_path / "two.npz", a=rows, b=rows)
    rows[[3, 9]] = np.nan
    np.save(tmp_path / "nan.npy", rows)
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 but not really")
    (tmp_path / "text.txt").write_text("x")
    gemma = tmp_path / "gemma" / "layer_3" / "width_16k" / "average_l0_82"
    gemma.mkdir(parents=True)
    np.savez(gemma / "params.npz", W_dec=rows, W_enc=rows.T)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "file").write_text("x")
    return tmp_path


@pytest.fixture
def here(files, tmp_path):
    """A folder of one's own with all of them."""
    return shutil.copytree(files, tmp_path / "here")


def one_sentence(*words, cwd, status=1):
    out, err = run_geomsae(*words, cwd=cwd, status=status)
    last = err.strip().splitlines()[-1]
    assert out == ""
    assert last.startswith("Error: ")
    assert "Traceback" not in err
    return last


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("convert missing.npy --model m", "there is no file or folder"),
        ("convert ./no/such.safetensors --model m", "there is no file or folder"),
        ("convert text.txt --model m", "not one of the formats"),
        ("convert good.npy", "--model"),
        ("convert good.npy --model a/b", "cannot stand in an id"),
        ("convert good.npy --model m --tensor W_dec", "has no tensor 'W_dec'"),
        ("convert two.npz --model m", "--tensor: a, b"),
        ("convert flat.npy --model m", "no matrix"),
        ("convert whole.npy --model m", "int64"),
        ("convert nan.npy --model m", "2 of 40 rows"),
        ("convert broken.npz --model m", "not a whole npz file"),
        ("convert good.npy --model m --layer x", "layers 'x'"),
        ("convert good.npy --model m --store else", "something else"),
        ("convert gemma --model m --site res --layer 4", "no layer 4; the layers there: 3"),
        ("convert gemma --model m --site res --width 65k", "no width 65k; there is 16k"),
        ("convert random:0x5", "at least one row"),
        ("convert random:9x5 --tensor W_dec", "takes no --tensor"),
        ("convert random:9x5 --layer 3", "no layer 3"),
        ("convert good.npy --model m --seed 1", "takes no --seed"),
        ("convert good.npy --model m --revision main", "takes no --revision"),
        ("histogram --store nowhere", "no store at nowhere"),
        ("histogram --store else", "something else"),
        ("ls --store text.txt", "is a file"),
        ("ls good.npy --model m --cache", "takes no --cache"),
        ("tails --store nowhere", "no store at nowhere"),
        ("report --store nowhere", "no store at nowhere"),
        ("histogram --store nowhere --scheduler tcp://127.0.0.1:9", "no Dask scheduler answers"),
    ],
)
def test_wrong_input_gets_one_sentence_and_status_1(here, words, said):
    assert said in one_sentence(*words.split(), cwd=here)
    assert not (here / "store").exists()
    assert not (here / "store-work").exists()


def test_a_process_ends_with_status_1_and_no_traceback(here):
    words = [sys.executable, "-W", "error", "-m", "geomsae", "convert", "nan.npy", "--model", "m"]
    done = subprocess.run(words, cwd=here, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip().startswith("Error: m has 2 of 40 rows that are NaN or infinite")
    assert "\n" not in done.stderr.strip()


def test_wrong_words_get_status_2(here):
    for words in (["histogram", "--bins", "many"], ["no-such-verb"], ["convert"]):
        assert run_geomsae(*words, cwd=here, status=2)[0] == ""


def test_a_store_in_use(here):
    run_geomsae("convert", "good.npy", "--model", "m", "--layer", "3", "--no-transpose", cwd=here)
    err = run_geomsae("convert", "good.npy", "--model", "m", "--layer", "3", cwd=here)[1]
    assert "is there already" in err
    assert "no dictionary 'm/9'" in one_sentence("histogram", "m/9", cwd=here)
    assert "nothing to report" in one_sentence("report", cwd=here)
    run_geomsae("histogram", cwd=here)
    assert "nothing to do" in run_geomsae("histogram", cwd=here)[1]
    assert "nearest edges: 0.123" in one_sentence("tails", "--threshold", "0.1234", cwd=here)
    assert "cannot be counted" in one_sentence("histogram", "--bins", "1", cwd=here)
    assert "takes the tensor cores" in one_sentence(
        "histogram", "--device", "cpu", "--precision", "tf32", cwd=here
    )

    (row,) = json_of("ls", cwd=here)
    assert json_of("ls", "--layer", "3", "--l0", "canonical", cwd=here) == [row]
    assert "no layer 4" in one_sentence("ls", "--layer", "4", cwd=here)
    assert "takes no --seed" in one_sentence("ls", "--seed", "1", cwd=here)
    assert (row["id"], row["layer"], row["l0"], row["n_features"]) == ("m/layer_3", 3, None, 40)
    (row,) = json_of("tails", cwd=here)
    assert row["n_pairs"] == 780
    assert row["tail_fraction"] == row["n_tail"] / 780
    table, _ = run_geomsae("tails", cwd=here)
    assert "m/layer_3" in table
    assert "tail_fraction" in table
    env = {**os.environ, "GEOMSAE_STORE": str(here / "store")}
    assert json_of("ls", cwd=here.parent, env=env) == json_of("ls", cwd=here)


def test_a_source_is_listed_before_it_is_converted(here):
    (row,) = json_of("ls", "random:10x4", "--seed", "2", cwd=here)
    assert row["id"] == "random/gaussian/10x4_seed_2"
    assert row["bytes"] == 160


@pytest.fixture
def mounted(tmp_path):
    """A small disk of one's own, mounted with the options asked for."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options):
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
            pytest.skip("no disk can be mounted here")
        return disk

    yield mount
    subprocess.run(["umount", str(disk)], capture_output=True)


def test_a_full_disk_is_one_sentence_and_what_was_finished_is_kept(here, mounted):
    store = mounted("size=1m") / "store"
    run_geomsae("convert", "good.npy", "--model", "m", "--store", store, cwd=here)
    words = ("convert", "random:4000x200", "--store", store)
    assert "no space is left on the disk" in one_sentence(*words, cwd=here)
    assert list(geomsae.open_store(store).decoders) == ["m"]
    assert not store.with_name("store-work").exists()


def test_a_disk_that_may_not_be_written_is_one_sentence(here, mounted):
    store = mounted("ro") / "store"
    words = ("convert", "good.npy", "--model", "m", "--store", store)
    assert "permission is missing" in one_sentence(*words, cwd=here)


def test_every_verb_explains_itself():
    for name, command in main.commands.items():
        assert command.help, name
        assert all(option.help for option in command.params if option.param_type_name == "option")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from geomsae.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'dask', 'zarr', 'xarray', 'numba', 'pandas', 'hvplot', 'rich'}\n"
        "sys.exit(str(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "unused"),
    [
        ("ls", "numba matplotlib hvplot distributed huggingface_hub"),
        ("convert good.npy --model m", "numba matplotlib hvplot distributed huggingface_hub"),
        ("histogram", "matplotlib hvplot huggingface_hub"),
        ("tails", "numba matplotlib hvplot huggingface_hub"),
    ],
)
def test_a_verb_imports_only_what_it_uses(here, words, unused):
    geomsae.open_store(here / "store", create=True)
    list(geomsae.convert("random:20x4", geomsae.open_store(here / "store", create=True)))
    code = (
        "import sys; from geomsae.cli import main\n"
        f"main({words.split()}, standalone_mode=False)\n"
        f"sys.exit(' '.join(sorted(set({unused.split()}) & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Page(HTMLParser):
    """What a page would fetch from elsewhere, and what it says."""

    def __init__(self, text):
        super().__init__()
        self.links, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.words.append(data.strip())


def test_the_report_is_one_page_that_needs_no_network(here):
    for layer in "012":
        np.save(here / f"{layer}.npy", np.random.default_rng(int(layer)).normal(size=(50, 8)))
        run_geomsae("convert", f"{layer}.npy", "--model", "m", "--layer", layer, cwd=here)
    run_geomsae("convert", "random:50x8", cwd=here)
    run_geomsae("histogram", cwd=here)
    out, _ = run_geomsae("report", cwd=here)
    page = Page((here / out.strip()).read_text())
    assert not [link for link in page.links if "//" in link]
    assert {f"m/layer_{layer}" for layer in "012"} <= set(page.words)
    assert "Planted data." not in page.words
    folder = here / "store-report"
    for link in page.links:
        assert (folder / link).stat().st_size > 1000
    names = {path.stem for path in folder.glob("*.png")}
    assert names == {path.stem for path in folder.glob("*.svg")} == {"share_by_layer_m", "tails_m"}


def test_names_from_files_are_escaped_in_the_page(tmp_path):
    from geomsae.pictures import write_report

    store = geomsae.open_store(tmp_path / "store", create=True)
    list(geomsae.convert("random:30x4", store))
    list(geomsae.compute_histograms(store))
    hist = store.histograms()
    evil = hist.drop_indexes(list(hist.xindexes["dictionary"].create_variables()))
    evil["dictionary"] = ("dictionary", ["<script>alert(1)</script>"])
    page = write_report(geomsae.index_dictionaries(evil), Path(tmp_path / "out")).page.read_text()
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
