"""On a cluster as on one machine: the same counts, whoever joins, leaves, hangs or does not fit."""

import os
import pickle
import re
import shutil
import subprocess
import sys
import time
import warnings
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import dask.config
import pytest
from conftest import run_geomsae
from distributed import Client

import geomsae
from geomsae.pairs import cluster as on_cluster
from geomsae.pairs.schedule import crew, devices, run
from geomsae.pairs.workers import check_crew
from tests.clusters import Cluster
from tests.commands import told
from tests.forks import start

FAKE_GPU = """
import sys, types, geomsae.pairs
fake = types.ModuleType("geomsae.pairs.gpu")
fake.available = lambda: True
geomsae.pairs.gpu = sys.modules["geomsae.pairs.gpu"] = fake
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A cluster of two worker processes that no test disturbs."""
    with Cluster(tmp_path_factory.mktemp("two"), workers=2) as cluster:
        yield cluster


@pytest.fixture
def own(tmp_path):
    """A cluster without workers, to be disturbed."""
    with Cluster(tmp_path / "cluster") as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def forgotten():
    """A client that loses its scheduler leaves Dask set to use it: later tests shall not."""
    yield
    dask.config.config.pop("scheduler", None)


@pytest.fixture
def soon(monkeypatch):
    """No patience, so that tests need none."""
    monkeypatch.setattr(on_cluster, "PATIENCE", 1.0)
    monkeypatch.setattr(on_cluster, "SECONDS_WITHOUT_WORKERS", 1.0)
    monkeypatch.setattr(on_cluster, "SECONDS_BETWEEN_LOOKS", 0.1)


@pytest.fixture
def drawn(tmp_path):
    """A store of one dictionary of several tiles."""
    store = geomsae.open_store(tmp_path / "drawn" / "store", create=True)
    list(geomsae.convert("random:9000x64", store))
    return store


def client_of(cluster):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of versions, which is what we refuse
        return Client(scheduler_file=str(cluster.file), timeout=30)


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def address_of(process, client):
    """The address of a worker that this process started."""
    (address,) = (a for a, pid in client.run(os.getpid).items() if pid == process.pid)
    return address


def sleeper(seconds=0.05):
    """A task that tells who did it; a function of its own, so that it travels by value."""

    def task(number):
        import time

        from distributed import get_worker

        began = time.time()
        time.sleep(seconds)
        return number, get_worker().address, began, time.time()

    return task


def collect(task, tasks, on_result=lambda done: None, **options):
    """Run tasks, and hand what is done so far over after each."""
    done = []

    def add(result):
        done.append(result)
        on_result(done)

    run(task, ((number,) for number in range(tasks)), add, **options)
    assert sorted(result[0] for result in done) == list(range(tasks))
    return done


def test_two_processes_count_the_same_as_one(two, drawn, tmp_path):
    alone = geomsae.open_store(shutil.copytree(drawn.location, tmp_path / "alone"))
    list(geomsae.compute_histograms(alone))
    with client_of(two):
        assert crew().teams == 2
        list(geomsae.compute_histograms(drawn))
    one, other = told(Path(alone.location)), told(Path(drawn.location))
    assert len(one) == 4
    for mine, theirs in zip(one, other, strict=True):
        assert mine.equals(theirs)


@pytest.mark.parametrize("how", ["file", "address", "variable"])
def test_a_cluster_is_named_in_three_ways(two, drawn, how):
    with client_of(two) as client:
        address = client.scheduler.address
    words = {"file": ["--scheduler", two.file], "address": ["--scheduler", address]}.get(how, [])
    command = start(
        ["-m", "geomsae", "histogram", "--store", drawn.location, *words],
        env={**os.environ, **({"DASK_SCHEDULER_ADDRESS": address} if how == "variable" else {})},
        stderr=subprocess.PIPE,
    )
    _, said = command.communicate()
    assert command.returncode == 0, said
    first, last = said.strip().splitlines()
    assert first == f"counting on the Dask cluster at {address}: 2 workers, 2 threads"
    assert last.endswith("40,495,500 pairs counted")


def test_a_cluster_without_workers_is_waited_for_and_then_refused(own, drawn, soon):
    words = ("histogram", "--store", drawn.location, "--scheduler", own.file)
    err = run_geomsae(*words, cwd=own.folder, status=1)[1].splitlines()
    assert "no workers yet: waiting" in err[0]
    assert err[-1].startswith("Error: ")
    assert "start some with 'dask worker tcp://" in err[-1]


@pytest.mark.long
def test_one_who_joins_late_is_used_and_one_who_leaves_is_not_missed(own, soon):
    first = own.add_worker()

    def on_result(done):
        if len(done) == 5:
            own.add_worker()
        if len(done) == 60:
            first.kill()

    with client_of(own):
        done = collect(sleeper(), 120, on_result)
    assert len({address for _, address, *_ in done}) == 2
    assert len({address for _, address, *_ in done[-20:]}) == 1


def test_all_may_leave_if_others_come(own):
    own.add_worker()

    def on_result(done):
        if len(done) == 5:
            own.workers[0].kill()
            own.add_worker()

    with client_of(own):
        collect(sleeper(), 20, on_result)


def test_none_left_is_one_sentence(own, soon):
    own.add_worker()
    with client_of(own), pytest.raises(geomsae.GeomsaeError, match="no workers: what was finished"):
        collect(sleeper(), 20, lambda done: own.workers[0].kill())


@pytest.mark.long
def test_what_a_hanging_worker_has_is_given_to_another(own, soon):
    from signal import SIGSTOP

    hanging = own.add_worker()
    own.add_worker()
    with client_of(own) as client:
        address = address_of(hanging, client)

        def on_result(done):
            if len(done) == 4:
                hanging.send_signal(SIGSTOP)

        done = collect(sleeper(), 40, on_result)
        # It may have sent a result or two of those that it had, and no more.
        assert sum(by == address for _, by, *_ in done) < 8
        hanging.kill()


def test_the_first_error_ends_the_run_and_the_rest_is_let_go(two):
    def task(number):
        if number == 7:
            raise RuntimeError("seven")

    def ours(words):
        raise geomsae.GeomsaeError(words)

    with client_of(two) as client:
        with pytest.raises(geomsae.GeomsaeError, match=r"failed \(RuntimeError: seven\)"):
            run(task, ((number,) for number in range(1000)), lambda _: None)
        until(lambda: not client.futures)
        with pytest.raises(geomsae.GeomsaeError, match=r"^one of ours$"):
            run(ours, [("one of ours",)], lambda _: None)


@pytest.mark.long
def test_a_task_that_kills_its_workers_is_one_sentence(own, soon):
    def task(number):
        import os

        os._exit(1)

    for _ in range(4):
        own.add_worker()
    with client_of(own), pytest.raises(geomsae.GeomsaeError, match="4 workers died at the same"):
        run(task, [(0,)], lambda _: None)


def test_a_scheduler_that_dies_is_one_sentence_at_once(own, drawn):
    own.add_worker()
    with client_of(own), pytest.raises(geomsae.GeomsaeError, match="scheduler is lost"):
        collect(sleeper(), 1000, lambda done: own.scheduler.kill())
    list(geomsae.compute_histograms(drawn))  # without it


def test_a_client_that_is_closed_is_one_sentence(two):
    with client_of(two) as client, pytest.raises(geomsae.GeomsaeError, match="is lost"):
        collect(sleeper(), 100, lambda done: len(done) == 3 and client.close())


def test_the_scheduler_is_never_flooded_nor_sent_an_array(two, drawn, monkeypatch):
    sizes, ahead, finished = [], [], 0
    submit = Client.submit

    def watched(self, *words, **options):
        sizes.append(len(pickle.dumps(words[1:])))
        return submit(self, *words, **options)

    def tasks():
        for number in range(200):
            ahead.append(number - finished)
            yield (number,)

    def on_result(_):
        nonlocal finished
        finished += 1

    monkeypatch.setattr(Client, "submit", watched)
    with client_of(two):
        run(sleeper(0.0), tasks(), on_result)
        assert finished == 200
        assert max(ahead) <= 9  # four for each thread, and the next one
        sizes.clear()
        list(geomsae.compute_histograms(drawn))
    assert len(sizes) > 10
    assert max(sizes) < 10_000 < drawn.decoder(next(iter(drawn.decoders))).nbytes / 100


# --- devices ---


@pytest.mark.long
def test_only_workers_with_a_gpu_are_given_work_for_one_and_one_task_at_a_time(own, soon):
    own.add_worker()
    with client_of(own) as client:
        assert devices() == {"cpu"}
        with pytest.raises(geomsae.GeomsaeError, match="CUDA_VISIBLE_DEVICES=0 dask worker tcp://"):
            collect(sleeper(), 4, device="gpu")
        own.add_worker(preload=FAKE_GPU, threads=2)
        assert devices() == {"cpu", "gpu"}
        assert crew("gpu").threads == crew("gpu").teams == 1

        def on_result(done):
            if len(done) == 10:
                own.add_worker("--resources", "GPU=1", preload=FAKE_GPU, threads=2)

        done = collect(sleeper(), 80, on_result, device="gpu")
        fit = {address_of(worker, client) for worker in own.workers[1:]}
        assert {address for _, address, *_ in done} == fit
        for address in fit:
            times = sorted(times for _, by, *times in done if by == address)
            assert all(a[1] <= b[0] for a, b in pairwise(times))
        anyone = collect(sleeper(), 40)
        assert {address for _, address, *_ in anyone} > fit


# --- who does not fit ---


def refused(cluster, store):
    with client_of(cluster), pytest.raises(geomsae.GeomsaeError) as error:
        check_crew(store.hierarchy)
    return str(error.value)


def test_a_cluster_that_fits_passes_and_leaves_nothing(two, drawn):
    with client_of(two):
        check_crew(drawn.hierarchy)
    assert not Path(f"{drawn.location}-work").exists()


@pytest.mark.long
def test_a_worker_that_does_not_see_the_store_is_named(own, drawn):
    hidden = str(Path(drawn.location).parent)
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    own.add_worker()
    words = 'mount -t tmpfs tmpfs "$0" && exec "$@"'
    blind = own.add_worker(within=("unshare", "-m", "sh", "-c", words, hidden))
    with client_of(own) as client:
        address = address_of(blind, client)
    said = refused(own, drawn)
    assert said.startswith(f"the worker {address} does not see the store at {drawn.location}:")


@pytest.mark.parametrize("package", ["numba", "geomsae"])
def test_a_worker_with_another_version_is_named(own, drawn, package, tmp_path):
    other = tmp_path / "other" / f"{package}-9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 9.9\n")
    own.add_worker(
        preload=f"import sys\nsys.path.insert(0, {str(other.parent)!r})\n"
        f"import {package}\n{package}.__version__ = '9.9'"
    )
    here = version(package)
    said = refused(own, drawn)
    assert f"has {package} 9.9 and this process {here}" in said
    assert f"install {package}=={here}" in said


def test_a_worker_without_geomsae_is_named(own, drawn):
    own.add_worker(preload="import sys\nsys.modules['geomsae'] = None")
    said = refused(own, drawn)
    assert said.startswith("the worker tcp://127.0.0.1:")
    assert "install geomsae" in said


# --- two hosts ---


@pytest.fixture
def hosts():
    """Two network namespaces with addresses of their own, and a wire between them."""
    names = [f"geomsae-{os.getpid()}-{side}" for side in "ab"]

    def ip(*words):
        return subprocess.run(["ip", *words], capture_output=True).returncode == 0

    if shutil.which("ip") is None or not all(ip("netns", "add", name) for name in names):
        pytest.skip("no network namespaces here")
    ends = [f"g{os.getpid()}{side}" for side in "ab"]
    ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
    found = {}
    for name, end, address in zip(names, ends, ["10.99.7.1", "10.99.7.2"], strict=True):
        ip("link", "set", end, "netns", name)
        ip("-n", name, "address", "add", f"{address}/24", "dev", end)
        ip("-n", name, "link", "set", end, "up")
        ip("-n", name, "link", "set", "lo", "up")
        found[address] = ("ip", "netns", "exec", name)
    yield found
    for name in names:
        ip("netns", "delete", name)


@pytest.mark.long
def test_two_hosts_count_the_same_as_one(hosts, drawn, tmp_path):
    alone = geomsae.open_store(shutil.copytree(drawn.location, tmp_path / "alone"))
    list(geomsae.compute_histograms(alone))
    (first, here), (second, there) = hosts.items()
    with Cluster(tmp_path / "cluster", host=first, within=here) as cluster:
        cluster.add_worker(host=first, within=here)
        cluster.add_worker(host=second, within=there)
        words = ["histogram", "--store", drawn.location, "--scheduler", str(cluster.file)]
        done = subprocess.run(
            [*here, sys.executable, "-m", "geomsae", *words], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert f"tcp://{first}:" in done.stderr
        logs = [log.read_text() for log in cluster.folder.glob("*.log")]
    assert any(f"Listening to: tcp://{second}:" in re.sub(" +", " ", log) for log in logs)
    for mine, theirs in zip(told(Path(alone.location)), told(Path(drawn.location)), strict=True):
        assert mine.equals(theirs)


def test_a_scheduler_that_is_not_there_is_one_sentence_soon(drawn):
    began = time.monotonic()
    words = ("histogram", "--store", drawn.location, "--scheduler", "tcp://127.0.0.1:9")
    err = run_geomsae(*words, cwd=Path(drawn.location).parent, status=1)[1]
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in err
    assert time.monotonic() - began < 30
