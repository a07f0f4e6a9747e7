"""A store at s3://, on loopback: converted into, counted by a cluster, a worker killed on the way.

``python -m tests.s3 20`` does it with 20 dictionaries, and compares what plain xarray reads
back with a store of one's own disk, bit for bit.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import xarray as xr

from tests.clusters import Cluster
from tests.forks import Fork, start

_SERVER = """
import logging
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
input()
"""

BUCKET = "bucket"


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """A server of objects with one bucket; what the environment has to say so that it is used."""
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{int(server.stdout.readline())}"
        said = {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "knows",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        python(f"import s3fs; s3fs.S3FileSystem().mkdir({BUCKET!r})", said)
        yield said
    finally:
        server.kill()
        server.communicate()


def python(code: str, said: dict[str, str]) -> str:
    """Run some Python elsewhere, in an environment that says so much more."""
    env = {**os.environ, **said}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def geomsae(*words: str, said: dict[str, str], **options) -> Fork:
    """Start the command line."""
    return start(
        ["-m", "geomsae", *words],
        env={**os.environ, **said},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def done(process: Fork) -> str:
    """What a command line told, once it is through."""
    out, told = process.communicate()
    assert process.returncode == 0, told
    return out + told


def counted_elsewhere(folder: Path, dictionaries: int, rows: int, say=lambda _: None) -> int:
    """Do all of it; returns how many dictionaries were counted when a worker was killed."""
    sources = [f"random:{rows + 100 * number}x128" for number in range(dictionaries)]
    here, there = str(folder / "store"), f"s3://{BUCKET}/a/store"
    with s3_server() as said:
        said["XDG_CACHE_HOME"] = str(folder / "cache")

        def timed(what: str, work):
            began = time.monotonic()
            result = work()
            say(f"{what}: {time.monotonic() - began:.1f} s")
            return result

        for place in (here, there):
            words = ["convert", *sources, "--store", place]
            timed(f"convert into {place}", lambda words=words: done(geomsae(*words, said=said)))
        timed(
            "histogram of the local store",
            lambda: done(geomsae("histogram", "--store", here, said=said)),
        )
        with patch.dict(os.environ, said), Cluster(folder / "cluster") as cluster:
            # On a busy machine they take longer to import than a worker may be silent.
            slow = "import s3fs, geomsae.pairs.stored, geomsae.pairs.workers"
            for _ in range(3):
                cluster.add_worker(preload=slow)
            killed_after = timed(
                "histogram of the store of objects", lambda: _counted(cluster, there, said)
            )
        read = f"""
import warnings; warnings.simplefilter("error")
import numpy as np, xarray as xr
tree = xr.open_datatree({there!r}, engine="zarr", consolidated=False)
assert not any(name.startswith("geomsae") for name in __import__("sys").modules)
np.savez({str(folder / "read.npz")!r}, **{{
    node.path: node["count"].values for node in tree.subtree if "count" in node
}}, **{{node.path: node["W_dec"].values for node in tree.subtree if "W_dec" in node}})
"""
        timed("read back by plain xarray", lambda: python(read, said))
        left = "import s3fs; print(s3fs.S3FileSystem().find('bucket/a/store-work'))"
        assert python(left, said).strip() == "[]"
    _compare(folder, here, dictionaries)
    return killed_after


def _counted(cluster: Cluster, location: str, said: dict[str, str]) -> int:
    """Count on a cluster, and kill a worker when two dictionaries are there."""
    words = ["histogram", "--store", location, "--scheduler", str(cluster.file)]
    counting = geomsae(*words, said=said)
    counted, killed_after, told = 0, 0, ""
    for line in counting.stderr:
        told += line
        counted += "pairs counted" in line
        if counted == 2 and not killed_after:
            cluster.workers[0].send_signal(signal.SIGKILL)
            killed_after = counted
    counting.communicate()
    assert counting.returncode == 0, told
    assert counted > killed_after, told
    assert cluster.workers[0].wait() == -signal.SIGKILL
    return killed_after


def _compare(folder: Path, here: str, dictionaries: int) -> None:
    """What was read from afar is what lies here, to the last bit."""
    tree = xr.open_datatree(here, engine="zarr", consolidated=False)
    expected = {
        node.path: node[name].values
        for node in tree.subtree
        for name in ("count", "W_dec")
        if name in node
    }
    assert len(expected) == 2 * dictionaries
    with np.load(folder / "read.npz") as read:
        found = {f"/{name.strip('/')}": read[name] for name in read.files}
    assert set(found) == set(expected)
    for path, values in expected.items():
        assert values.dtype == found[path].dtype
        assert values.tobytes() == found[path].tobytes(), path


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        count = int(sys.argv[1])
        after = counted_elsewhere(Path(place), count, int(sys.argv[2]), print)
        print(
            f"{count} dictionaries; a worker was killed when {after} were counted; all is the same"
        )
