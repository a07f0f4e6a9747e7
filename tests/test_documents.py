"""What the documents show is run: the notebooks, the README's Python, and its commands."""

import re
import shlex
from pathlib import Path

import nbformat
import numpy as np
import pytest
from conftest import run_geomsae
from nbclient import NotebookClient

import geomsae
from geomsae.cli import main

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("path", sorted((PROJECT / "notebooks").glob("*.ipynb")), ids=str)
def test_a_notebook_runs_and_is_kept_without_its_output(path):
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = geomsae.open_store("store", create=True)
    np.save("w.npy", np.random.default_rng(0).standard_normal((50, 8)))
    run_geomsae("convert", "w.npy", "--model", "m", "--layer", "3", cwd=tmp_path)
    list(geomsae.compute_histograms(store))
    code = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    shown: dict = {}
    exec(compile(code, "README.md", "exec"), shown)
    assert shown["share"].sizes == {"dictionary": 1}


PAGES = [README, *(page.read_text("utf-8") for page in sorted((PROJECT / "docs").glob("*.md")))]


def test_every_command_of_the_documents_is_understood():
    blocks = re.findall(r"```console\n(.*?)```", "\n".join(PAGES), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("geomsae ")]
    assert len(commands) >= 7
    for verb, *words in commands:
        command = main.commands[verb]
        with command.make_context(verb, words) as context:
            assert context.params


def test_the_readme_and_ci_run_the_same_tests():
    assert "uv run pytest" in README
    assert "uv run pytest" in (PROJECT / ".ci" / "run").read_text(encoding="utf-8")
