"""Stores at s3://, on a server of objects on loopback."""

import importlib.util
import json
import socket

import pytest

from tests.s3 import counted_elsewhere, done, python, s3_server
from tests.s3 import geomsae as start

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ("moto", "flask", "s3fs"))),
        reason="no server of objects here: pip install s3fs 'moto[s3]' flask flask-cors",
    ),
]


def test_of_s3_every_failure_is_one_sentence(tmp_path):
    def check_told(*asked):
        """Ask all at once, as some wait long for an answer; each is refused in its own words."""
        begun = [(start(*words, said=said, cwd=tmp_path), part) for words, said, part in asked]
        for process, part in begun:
            _, stderr = process.communicate(timeout=120)
            assert process.returncode == 1
            assert "Traceback" not in stderr
            assert part in stderr

    ls, convert = ["ls", "--store"], ["convert", "random:4x4", "--store"]
    with s3_server() as said:
        bare = {**said, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
        bare |= {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
        check_told(
            ([*ls, "s3://nowhere/store"], said, "no store"),
            ([*convert, "s3://nowhere/store"], said, "make the bucket"),
            ([*convert, "s3://bucket"], said, "name a folder"),
            ([*ls, "s3://bucket/store"], bare, "credentials"),
        )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = {**said, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        check_told(
            *(([*ls, "s3://bucket/store"], where, "does not answer") for where in (said, mute))
        )


def test_on_s3_a_worker_may_be_killed_on_the_way(tmp_path):
    counted_elsewhere(tmp_path, 3, 2000)


def test_on_s3_a_killed_run_is_gone_on_with_at_once(tmp_path):
    sources = [f"random:{n}x64" for n in (3000, 2600)]
    with s3_server() as said:
        said["XDG_CACHE_HOME"] = str(tmp_path / "cache")
        for words in (["convert", *sources], ["histogram"]):
            words += ["--store", "s3://bucket/store"]
            struck = start(*words, said=said)
            struck.stderr.readline()  # the first is there, and the second on its way
            struck.kill()
            struck.communicate()
            told = done(start(*words, said=said))
            assert "waiting" not in told  # for a process that is dead
        table = done(start("verify", "--json", "--store", "s3://bucket/store", said=said))
        rows = json.loads(table)
        assert len(rows) == 6
        assert {row["problem"] for row in rows} == {""}
        left = "import s3fs; print(s3fs.S3FileSystem().find('bucket/store-work'))"
        assert python(left, said).strip() == "[]"
    assert list((tmp_path / "cache" / "geomsae").iterdir()) == []
