"""Runs on a real Ray cluster of several nodes on this machine, of which nodes and processes are lost."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

pytest.importorskip("ray")
from tests.child_processes import finished, started
from tests.distributed.restorers import broken, doubling, fragile, slow, write_pictures
from tests.distributed.runs import Heard, recorded, recorded_inputs, run
from tests.docs.archives import read_pages_on_archives
from tests.s3_server import S3Server, s3_server  # noqa: F401  (a fixture)
from tests.signals import as_in_a_terminal
from tsdsr.distributed import restore
from tsdsr.distributed.cluster import ActorPool, connected
from tsdsr.distributed.watching import HeadWatch
from tsdsr.errors import ClusterError, ModelError
from tsdsr.remote_files import list_files, read_bytes, write_file

pytestmark = pytest.mark.timeout(600)
ROOT = str(Path(__file__).resolve().parents[2])


@pytest.fixture(scope="module")
def cluster(s3_server: S3Server) -> Iterator[Any]:  # noqa: F811
    """A head without CPUs, where drivers run, and nodes of one CPU; its processes know the S3 server."""
    from ray.cluster_utils import Cluster

    paths = os.environ.get("PYTHONPATH", "")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{paths}")
        environment.setenv("RAY_ADDRESS", "")
        made = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000},
        )
        try:
            add_nodes(made, 2)
            yield made
        finally:
            made.shutdown()


def add_nodes(cluster: Any, count: int) -> list[Any]:
    return [cluster.add_node(num_cpus=1, object_store_memory=80_000_000) for _ in range(count)]


def worker_processes() -> list[psutil.Process]:
    """The processes of this cluster that hold a model."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "RestoreBatch" in " ".join(process.cmdline()):
                found.append(process)
    return found


def test_a_node_is_lost(cluster: Any, tmp_path: Path) -> None:
    """Four nodes; one is taken away while all of them work."""
    source, output = str(tmp_path / "in"), str(tmp_path / "out")
    write_pictures(tmp_path / "in", 128)
    lost, _ = add_nodes(cluster, 2)
    heard = Heard(after=10, then=lambda: cluster.remove_node(lost))
    summary = run(source, output, cluster.address, slow, heard, ActorPool(4, 4))
    assert heard.thread is not None
    heard.thread.join()
    assert summary.counts["done"] == 128
    assert not heard.failures
    assert recorded_inputs(output) == {f"{number:04d}.png": 1 for number in range(128)}
    assert len(list((tmp_path / "out").glob("*.png"))) == 128


def test_a_process_is_killed(cluster: Any, tmp_path: Path) -> None:
    source, output = str(tmp_path / "in"), str(tmp_path / "out")
    write_pictures(tmp_path / "in", 64)
    killed: list[int] = []

    def kill_one() -> None:
        process = worker_processes()[0]
        process.kill()
        killed.append(process.pid)

    heard = Heard(after=10, then=kill_one)
    assert run(source, output, cluster.address, slow, heard).counts["done"] == 64
    assert heard.thread is not None
    heard.thread.join()
    assert killed
    assert not heard.failures
    assert recorded_inputs(output) == {f"{number:04d}.png": 1 for number in range(64)}


def test_a_file_that_kills_its_process_costs_itself(cluster: Any, tmp_path: Path) -> None:
    source, output = str(tmp_path / "in"), str(tmp_path / "out")
    write_pictures(tmp_path / "in", 70, poison=40)
    heard = Heard()
    summary = run(source, output, cluster.address, fragile, heard)
    assert (summary.counts["done"], summary.counts["killed"], summary.failed, summary.left) == (69, 1, 1, 0)
    assert len(heard.failures) == 1
    assert heard.failures[0].startswith(f"{source}/0040.png: its process died twice")
    statuses = {Path(row["input"]).name: row["status"] for row in recorded(output)}
    assert statuses.pop("0040.png") == "killed"
    assert set(statuses.values()) == {"done"}
    assert len(statuses) == 69


def test_a_driver_is_killed_and_the_next_run_continues(cluster: Any, tmp_path: Path) -> None:
    source, output = str(tmp_path / "in"), str(tmp_path / "out")
    write_pictures(tmp_path / "in", 96)
    command = [sys.executable, "-m", "tests.distributed.runs", source, output, cluster.address, "slow"]
    with started(command, cwd=ROOT) as driver:
        limit = time.monotonic() + 120
        while len(list((tmp_path / "out").glob("*.png"))) < 20:
            assert time.monotonic() < limit
            assert driver.poll() is None
            time.sleep(0.1)
        os.kill(driver.pid, signal.SIGKILL)
    assert len(list((tmp_path / "out").glob("*.png"))) < 96
    summary = run(source, output, cluster.address, slow)
    assert summary.counts["done"] + summary.counts["skipped"] == 96
    assert summary.failed == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 96
    rows = len(recorded(output))
    again = run(source, output, "127.0.0.1:1", slow)  # no cluster, and none is needed
    assert again.counts == {"skipped": 96, "failed": 0}
    assert len(recorded(output)) == rows


def test_signals_and_handlers_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = signal.getsignal(signal.SIGTERM), list[str]()
    of_shell = signal.signal(signal.SIGINT, signal.default_int_handler)  # which ignores it for jobs in the background

    def connect(ray: Any, address: str) -> None:
        ray._private.utils.set_sigterm_handler(lambda *_: None)  # as ray.init() does
        assert own.level == logging.NOTSET
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        signal.raise_signal(signal.SIGINT)
        seen.append("went on")  # an exception would crash Ray

    monkeypatch.setattr("tsdsr.distributed.cluster._connect", connect)
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    importlib.import_module("ray.data")  # adds its own handlers
    own = logging.StreamHandler()
    logging.getLogger("ray.data").addHandler(own)
    handlers = logging.getLogger("ray.data").handlers
    try:
        levels = [handler.level for handler in handlers]
        with pytest.raises(KeyboardInterrupt), connected("local"):
            raise AssertionError("it was interrupted")
        assert "RAY_USAGE_STATS_ENABLED" not in os.environ
        assert [handler.level for handler in handlers] == levels
    finally:
        logging.getLogger("ray.data").removeHandler(own)
        signal.signal(signal.SIGINT, of_shell)
    assert seen == ["went on"]
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("lives_on", [False, True])
def test_a_thread_that_outlives_the_connection_starts_no_cluster(
    monkeypatch: pytest.MonkeyPatch, lives_on: bool
) -> None:
    hook, end = importlib.import_module("ray._private.auto_init_hook"), threading.Event()
    monkeypatch.setattr("tsdsr.distributed.cluster._connect", lambda *_: None)
    monkeypatch.setattr("tsdsr.distributed.cluster._THREAD_SECONDS", 0.5)
    monkeypatch.setattr(hook, "enable_auto_connect", True)
    thread = threading.Thread(target=end.wait)
    with connected("local"):
        assert not hook.enable_auto_connect
        thread.start()
        if not lives_on:
            end.set()
    assert hook.enable_auto_connect is not lives_on
    end.set()
    thread.join()


def test_a_lost_head_ends_the_run_before_ray_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HeadWatch, "patience", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        monkeypatch.setattr("ray.get_runtime_context", lambda: SimpleNamespace(gcs_address=address))
        watch = HeadWatch()
        assert watch.answers()
    assert not watch.answers()
    time.sleep(0.1)
    with pytest.raises(ClusterError, match=rf"head of the cluster at {address} .* run the command again"):
        watch.answers()
    unreachable = HeadWatch()  # from the beginning, as through Ray Client
    assert unreachable.answers()
    time.sleep(0.1)
    assert unreachable.answers()


def test_a_cluster_that_does_not_start_here_is_no_wrong_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(*_: Any, **__: Any) -> None:
        raise RuntimeError("The current node timed out during startup.")

    monkeypatch.setattr("ray.init", init)
    with (
        pytest.raises(ClusterError, match=r"could be started on this machine \(The current node .* less to do"),
        connected("local"),
    ):
        raise AssertionError("it is not connected")


def test_an_error_of_every_process_ends_the_run(cluster: Any, tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 4)
    with pytest.raises(ModelError, match=r"^its weights are damaged$"):
        run(f"{tmp_path}/in", f"{tmp_path}/out", cluster.address, broken)


def test_a_run_does_not_wait_for_ever_for_a_gpu(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path / "in", 4)
    monkeypatch.setattr("tsdsr.distributed.watching.RoomWatch.patience", 0.5)
    monkeypatch.setattr("tsdsr.distributed.archive._LOOK_SECONDS", 0.5)
    heard = Heard()
    with pytest.raises(ClusterError, match=r"no machine .* has had 1 CPU and 0.5 GPU for an actor .* run the command"):
        run(f"{tmp_path}/in", f"{tmp_path}/out", cluster.address, doubling, heard, ActorPool(gpus=0.5))
    assert heard.notes == [
        "no machine of the cluster has 1 CPU and 0.5 GPU for an actor; waiting for one, up to 0 minutes"
    ]


def test_the_command_makes_what_it_makes_without_a_cluster(cluster: Any, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "in", 6)
    Path(paths[2]).write_bytes(b"no picture")
    command = [sys.executable, "-m", "tsdsr", "upscale", str(tmp_path / "in"), "--scale", "2", "--engine", "onnx"]
    plain = finished([*command, "-o", f"{tmp_path}/plain"], cwd=ROOT)
    there = [*command, "-o", f"{tmp_path}/there", "--on", f"ray={cluster.address}", "--actors", "1"]
    result = finished(there, cwd=ROOT)
    assert result.returncode == plain.returncode == 1
    assert result.stderr == plain.stderr
    assert result.stdout.startswith(b"5 upscaled, 0 skipped (already there), 1 failed in ")
    made = {path.name: path.read_bytes() for path in (tmp_path / "there").glob("*.png")}
    assert made == {path.name: path.read_bytes() for path in (tmp_path / "plain").glob("*.png")}
    assert len(made) == 5


def test_ctrl_c_says_what_is_left(cluster: Any, tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 400)
    command = [
        sys.executable, "-m", "tsdsr", "upscale", f"{tmp_path}/in", "-o", f"{tmp_path}/out", "--scale", "8", "--engine",
        "onnx", "--on", f"ray={cluster.address}", "--actors", "1",
    ]  # fmt: skip
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": as_in_a_terminal}
    with started(command, cwd=ROOT, **options) as process:
        limit = time.monotonic() + 120
        while len(list((tmp_path / "out").glob("*.png"))) < 70:
            assert time.monotonic() < limit
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert errors.endswith("interrupted\n")
    done = len([row for row in recorded(f"{tmp_path}/out") if row["status"] == "done"])
    assert 0 < done < 400
    assert output.startswith(f"{done} upscaled, 0 skipped (already there), 0 failed, {400 - done} left in ")


def test_pictures_from_and_to_a_bucket(
    cluster: Any,
    tmp_path: Path,
    s3_server: S3Server,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The service refuses every seventh request; the plan has two segments."""
    monkeypatch.setattr("tsdsr.distributed.plan_writer.BATCHES_A_PART", 8)
    monkeypatch.setattr("tsdsr.distributed.plan_reader._PARTS_A_SEGMENT", 2)
    bucket, count = s3_server.bucket("scans"), 0
    for path in write_pictures(tmp_path, 40):
        write_file(f"{bucket}/in/deep/{Path(path).name}", path)

    def refuse(method: str, path: str) -> int:
        nonlocal count
        count += 1
        return 503 if count % 7 == 0 else 0

    s3_server.refuse = refuse
    try:
        summary = run(f"{bucket}/in", f"{bucket}/out", cluster.address, doubling)
    finally:
        s3_server.refuse = lambda *_: 0
    assert summary.counts["done"] == 40
    names = [file.relative for file in list_files(f"{bucket}/out") if file.relative.endswith(".png")]
    assert sorted(names) == [f"deep/{number:04d}.png" for number in range(40)]
    assert recorded_inputs(f"{bucket}/out").total() == 40
    assert read_bytes(f"{bucket}/out/deep/0007.png")[:4] == b"\x89PNG"


def test_the_operator_in_a_pipeline_of_its_user(cluster: Any, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "in", 12)
    Path(paths[3]).write_bytes(b"no picture")
    with connected(cluster.address):
        import ray.data

        rows = [{"input": path, "output": f"{tmp_path}/out/{Path(path).stem}.jpg"} for path in paths]
        dataset = ray.data.from_items(rows, override_num_blocks=3)
        statuses = restore(dataset, scale=2, restorer=doubling, actors=(1, 1)).take_all()
    assert sorted(row["input"] for row in statuses) == paths
    assert [row["input"] for row in statuses if row["status"] != "done"] == [paths[3]]
    assert len(list((tmp_path / "out").glob("*.jpg"))) == 11


def test_the_pages_on_archives(
    cluster: Any,
    tmp_path: Path,
    s3_server: S3Server,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a reader of the documentation types, on this cluster. Nothing of it has a GPU."""
    read_pages_on_archives(cluster.address, s3_server, tmp_path, monkeypatch)
