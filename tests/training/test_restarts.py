"""Runs of ``torchrun`` in which a worker is killed, or of two hosts. They end as the run that nothing happens to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.child_processes import finished, started
from tests.process_group import in_processes
from tsdsr.errors import ConfigError
from tsdsr.recipes import student_recipe
from tsdsr.training import train_student
from tsdsr.training.checkpoint import newest_checkpoint
from tsdsr.training.start_checks import check_restarts

RECIPE = '''
"""A run of two roles. The process of rank KILL kills itself once, in the sixth step."""
import dataclasses, os, signal
from pathlib import Path
from tsdsr.recipes import student_recipe
from tsdsr.training.student import StudentTrainer

def killed():
    honest, once = StudentTrainer.train_step, Path(__file__).with_name("killed")
    def train_step(self, batches):
        if self.step == 5 and os.environ["RANK"] == os.environ.get("KILL") and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return honest(self, batches)
    StudentTrainer.train_step = train_step
    return recipe()

def recipe():
    base = student_recipe("mini_smoke")
    phase = dataclasses.replace(base.phases[0], steps=8, adversarial_weight=0.1, adversary="latent")
    return dataclasses.replace(base, phases=(phase,), checkpoint_every=2, validate_every=4)
'''


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.py"
    path.write_text(RECIPE)
    return path


def undisturbed(recipe: Path, photos: Path, out: Path) -> None:
    train_student(student_recipe(f"{recipe}:recipe"), photos, out, device="cpu")
    left = out.with_name(f"threads-{os.environ['RANK']}")
    left.write_text("\n".join(p.read_text().strip() for p in Path("/proc/self/task").glob("*/comm")))


@pytest.fixture(scope="module")
def photos(photo: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for left in (0, 128, 256, 384):
        photo.crop((left, 128, left + 128, 256)).save(folder / f"{left}.png")
    return folder


@pytest.fixture(scope="module")
def reference(recipe: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes that nothing happens to."""
    folder = tmp_path_factory.mktemp("reference")
    in_processes(2, folder / "group", undisturbed, recipe, photos, folder / "run")
    return folder / "run"


def torchrun(launch: list[str], recipe: str, photos: Path, out: Path) -> list[str]:
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "torch.distributed.run",
        *launch,
        "-m",
        "tsdsr",
        "train",
        "student",
    ]
    return [
        *command,
        "--recipe",
        recipe,
        "--photos",
        str(photos),
        "-o",
        str(out),
        "--device",
        "cpu",
        "--tracker",
        "none",
    ]


def environment(**changes: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"} | changes


def figures(run: Path) -> list[dict[str, Any]]:
    """The lines of a log, without what depends on the machine."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("steps_per_second", "memory_gb")} for line in lines]


def tensors(run: Path) -> dict[str, torch.Tensor]:
    found = newest_checkpoint(run)
    assert found is not None
    stored: dict[str, torch.Tensor] = torch.load(found.path, weights_only=True)["tensors"]
    return stored


def assert_equal_runs(run: Path, reference: Path) -> None:
    """Weights, moments, averages, buffers, losses and the stored student, to the bit."""
    got, expected = tensors(run), tensors(reference)
    assert got.keys() == expected.keys()
    assert {name.split(".")[0] for name in got} == {"student", "discriminator", "average"}
    assert [k for k in got if not torch.equal(got[k], expected[k])] == []
    assert figures(run) == figures(reference)
    names = sorted(p.relative_to(reference) for p in reference.glob("pipeline-*/**/*.safetensors"))
    assert len(names) > 1
    for name in names:
        assert (run / name).read_bytes() == (reference / name).read_bytes()


def test_a_killed_worker_is_restarted_and_the_run_ends_as_if_nothing_had_happened(
    recipe: Path, reference: Path, photos: Path, tmp_path: Path
) -> None:
    launch = ["--standalone", "--nproc-per-node", "2", "--max-restarts", "2"]
    command = torchrun(launch, f"{recipe}:killed", photos, tmp_path / "run")
    result = finished(command, timeout=250, text=True, env=environment(KILL="1"))
    assert result.returncode == 0, result.stderr[-3000:]
    assert recipe.with_name("killed").exists()
    assert "step 5: another process of the run has ended or cannot be reached" in result.stderr
    assert "the checkpoint of step 4 is kept; repeat the command to continue" in result.stderr
    assert "bug in tsdsr" not in result.stderr
    assert result.stdout.count("ready for") == 1
    assert_equal_runs(tmp_path / "run", reference)
    assert not [p for p in (tmp_path / "run").iterdir() if p.name.startswith(".tsdsr-") or p.name == "run.lock"]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads the names of threads from Linux")
def test_a_run_that_has_ended_leaves_no_threads_of_its_group(reference: Path) -> None:
    """They abort the process if they free a tensor while Python shuts down: https://github.com/pytorch/pytorch/pull/179291."""
    for rank in range(2):
        threads = reference.with_name(f"threads-{rank}").read_text().splitlines()
        assert len(threads) > 0
        assert [name for name in threads if "gloo" in name] == []


def test_restarts_need_a_store_that_forgets() -> None:
    """Otherwise they hang: https://github.com/pytorch/pytorch/issues/135712."""
    shared = {"TORCHELASTIC_MAX_RESTARTS": "2", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    with pytest.raises(ConfigError, match="TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        check_restarts(shared)
    check_restarts(shared | {"TORCHELASTIC_MAX_RESTARTS": "0"})
    check_restarts(shared | {"TORCHELASTIC_USE_AGENT_STORE": "False"})
    check_restarts({})


@contextmanager
def two_hosts() -> Iterator[list[tuple[list[str], list[str], dict[str, str]]]]:
    """Two network namespaces with a cable between them; two agents on this host where that is not allowed.

    Yields:
        list: for each host, what goes before a command, arguments of its agent, and its environment.
    """
    names = [f"tsdsr-{os.getpid()}-{number}" for number in range(2)]
    cable = [f"ts{os.getpid()}n{number}" for number in range(2)]
    ip = [["ip", "netns", "add", name] for name in names]
    ip += [["ip", "link", "add", cable[0], "netns", names[0], "type", "veth", "peer", cable[1], "netns", names[1]]]
    for number in range(2):
        inside = ["ip", "-n", names[number]]
        ip += [[*inside, "address", "add", f"10.77.0.{number + 1}/24", "dev", cable[number]]]
        ip += [[*inside, "link", "set", device, "up"] for device in ("lo", cable[number])]
    with ExitStack() as stack:
        try:
            for command in ip:
                subprocess.run(command, check=True, capture_output=True)
                if "add" in command[2:3] or command[1:3] == ["netns", "add"]:
                    stack.callback(subprocess.run, ["ip", "netns", "delete", command[-1]], capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            yield [([], ["--local-addr", "127.0.0.1", "--rdzv-endpoint", f"127.0.0.1:{free_port()}"], {})] * 2
            return
        yield [
            (
                ["ip", "netns", "exec", names[number]],
                ["--rdzv-endpoint", "10.77.0.1:29400", "--local-addr", f"10.77.0.{number + 1}"],
                {"GLOO_SOCKET_IFNAME": cable[number]},
            )
            for number in range(2)
        ]


def free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def test_two_hosts_do_one_run_and_the_folder_of_the_first_counts(
    recipe: Path, reference: Path, photos: Path, tmp_path: Path
) -> None:
    """A process of its own on each host, without a folder that both see."""
    with two_hosts() as hosts, ExitStack() as stack:
        agents = []
        for number, (before, arguments, extra) in enumerate(hosts):
            rendezvous = ["--rdzv-backend", "c10d", "--rdzv-id", "1", "--rdzv-conf", f"is_host={int(number == 0)}"]
            launch = ["--nnodes", "2", "--nproc-per-node", "1", *rendezvous, *arguments]
            command = before + torchrun(launch, f"{recipe}:recipe", photos, tmp_path / f"host-{number}")
            output = stack.enter_context((tmp_path / f"output-{number}").open("w"))
            agents += [stack.enter_context(started(command, stdout=output, stderr=output, env=environment(**extra)))]
        deadline = time.monotonic() + 250
        for number, agent in enumerate(agents):
            code = agent.wait(max(1, deadline - time.monotonic()))
            assert code == 0, (tmp_path / f"output-{number}").read_text()[-3000:]
    runs = [p.name for p in tmp_path.glob("host-*") if newest_checkpoint(p) is not None]
    assert len(runs) == 1  # either agent may become the first
    assert_equal_runs(tmp_path / runs[0], reference)
    assert sum((tmp_path / f"output-{number}").read_text().count("ready for") for number in range(2)) == 1
