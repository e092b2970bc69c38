"""`tsdsr serve` under load: many clients at once on this machine, for a bounded time.

    python benchmarks/serve_load.py                       # 200 clients for a minute
    python benchmarks/serve_load.py --clients 20 --seconds 10

Starts a server on 127.0.0.1 with a folder of its own for temporary files. Each client sends small pictures, one after
another: most wait for the answer, some queue a job and follow it, some cancel it, some hang up in between. A refused
client (429) waits as told, a few seconds at most. Prints a table and writes nothing else. The exit status is 1 if a job
was lost, an answer was wrong, or the server did not stop cleanly.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image

from tsdsr.machine import describe_machine, versions

MOST_CLIENTS, MOST_SECONDS = 400, 600
EDGE = 32
"""Edge of the pictures in pixels: the queue is tested, not the model."""
LONGEST_WAIT = 5.0
SHARES = {"upscale": 0.6, "job": 0.2, "cancel": 0.1, "hang up": 0.1}
"""What clients do → how often."""
FINAL = ("done", "failed", "cancelled")


@dataclass
class Tally:
    """What the clients saw.

    Attributes:
        seconds (dict): what a client did → how long each took until the picture was there, refusals not counted.
        refused (int): answers 429.
        errors (Counter): answers and failures that should not be.
        lost (list of str): accepted jobs without an end.
        memory (list of float): the server's resident memory in MB, each second.
        processor (dict): seconds of processor time of the server and of the clients, and seconds that passed.
    """

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    refused: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    processor: dict[str, float] = field(default_factory=dict)


class Client:
    """One client: does things until the time is over.

    Args:
        http (AsyncClient): its connections.
        tally (Tally): where it notes what it saw.
        number (int): seed of what it does and of its picture.
    """

    def __init__(self, http: httpx.AsyncClient, tally: Tally, number: int) -> None:
        self.http, self.tally, self.random = http, tally, random.Random(number)
        pixels = np.random.default_rng(number).integers(0, 256, (EDGE, EDGE, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        self.upload = {"content": file.getvalue(), "headers": {"Content-Type": "image/png"}}

    async def run(self, until: float) -> None:
        """Work until a time on the monotonic clock."""
        actions = {"upscale": self.upscale, "job": self.job, "cancel": self.cancel, "hang up": self.hang_up}
        while time.monotonic() < until:
            name = self.random.choices(list(SHARES), list(SHARES.values()))[0]
            started = time.monotonic()
            try:
                if await actions[name]():
                    self.tally.seconds[name].append(time.monotonic() - started)
            except httpx.HTTPError as error:
                self.tally.errors[f"{name}: {type(error).__name__}"] += 1
                await asyncio.sleep(1)

    async def upscale(self) -> bool:
        """Send a picture and wait for it."""
        answer = await self.http.post("/v1/upscale?scale=2", **self.upload)
        return await self._accepted("upscale", answer, 200) and self._check("upscale", answer)

    async def job(self) -> bool:
        """Queue a picture, ask until it is done, fetch and forget it."""
        id = await self._queue("job")
        if not id:
            return False
        job = await self._end_of(id)
        if job["state"] != "done":
            self.tally.errors[f"job: {job['state']}"] += 1
            return False
        answer = await self.http.get(f"/v1/jobs/{id}/result")
        good = self._check("job", answer)
        await self.http.delete(f"/v1/jobs/{id}")
        return good

    async def cancel(self) -> bool:
        """Queue a picture and cancel it at some point."""
        id = await self._queue("cancel")
        if not id:
            return False
        await asyncio.sleep(self.random.random())
        await self.http.delete(f"/v1/jobs/{id}")
        answer = await self.http.get(f"/v1/jobs/{id}")
        if answer.status_code != 404 and answer.json()["state"] not in FINAL:
            self.tally.lost.append(id)
        return True

    async def hang_up(self) -> bool:
        """Send a picture and go away before the answer."""
        with suppress(httpx.TimeoutException):
            answer = await self.http.post("/v1/upscale?scale=2", **self.upload, timeout=self.random.uniform(0.05, 0.5))
            await self._accepted("hang up", answer, 200)
            return False
        return True

    async def _queue(self, name: str) -> str:
        answer = await self.http.post("/v1/jobs?scale=2", **self.upload)
        return str(answer.json()["id"]) if await self._accepted(name, answer, 202) else ""

    async def _end_of(self, id: str) -> dict[str, str]:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            answer = await self.http.get(f"/v1/jobs/{id}")
            if answer.status_code != 200:
                break
            if answer.json()["state"] in FINAL:
                return dict(answer.json())
            await asyncio.sleep(0.5)
        self.tally.lost.append(id)
        return {"state": "lost"}

    async def _accepted(self, name: str, answer: httpx.Response, wanted: int) -> bool:
        if answer.status_code == 429:
            self.tally.refused += 1
            await asyncio.sleep(min(LONGEST_WAIT, float(answer.headers["Retry-After"])) * self.random.uniform(0.5, 1.5))
        elif answer.status_code != wanted:
            self.tally.errors[f"{name}: {answer.status_code} {answer.text[:80]}"] += 1
        return answer.status_code == wanted

    def _check(self, name: str, answer: httpx.Response) -> bool:
        with suppress(OSError), Image.open(io.BytesIO(answer.content)) as image:
            image.load()
            if image.size == (2 * EDGE, 2 * EDGE):
                return True
        self.tally.errors[f"{name}: {answer.status_code}, not the picture"] += 1
        return False


async def watch(process: psutil.Process, tally: Tally) -> None:
    """Note the server's memory each second."""
    while True:
        tally.memory.append(process.memory_info().rss / 1e6)
        await asyncio.sleep(1)


async def load(url: str, process: psutil.Process, clients: int, seconds: float) -> Tally:
    """Let clients work, each with connections of its own, then wait until the queue is empty."""
    tally, started, busy = Tally(), time.monotonic(), {"server": process, "clients": psutil.Process()}
    before = {name: sum(one.cpu_times()[:2]) for name, one in busy.items()}
    # One pool for all would be searched at each request. The server closes a connection after 5 s without a request.
    limits = httpx.Limits(keepalive_expiry=2)
    async with AsyncExitStack() as opened:
        pools = [
            await opened.enter_async_context(httpx.AsyncClient(base_url=url, timeout=120, limits=limits, verify=False))
            for _ in range(clients)
        ]
        watcher = asyncio.create_task(watch(process, tally))
        until = time.monotonic() + seconds
        await asyncio.gather(*(Client(http, tally, number).run(until) for number, http in enumerate(pools)))
        await _until(lambda: _is_idle(pools[0]), 120)
        watcher.cancel()
        tally.processor = {name: sum(one.cpu_times()[:2]) - before[name] for name, one in busy.items()}
        tally.processor["passed"] = time.monotonic() - started
    return tally


async def _is_idle(http: httpx.AsyncClient) -> bool:
    text = (await http.get("/metrics")).text
    return "tsdsr_queue_length 0.0" in text


async def _until(true: Callable[[], Awaitable[bool]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not await true() and time.monotonic() < deadline:
        await asyncio.sleep(0.5)


def report(tally: Tally, clients: int, seconds: float) -> None:
    """Print the figures as Markdown."""
    machine, used = describe_machine(), versions("tsdsr", "onnxruntime", "uvicorn", "fastapi", "httpx")
    print(f"{clients} clients, {seconds:g} s, pictures of {EDGE}x{EDGE} to {2 * EDGE}x{2 * EDGE} pixels, one server")
    print(f"{machine['cpu']}, {machine['cores']} cores; " + ", ".join(f"{n} {v}" for n, v in used.items()), "\n")
    print("| | number | median | 95 % | 99 % | longest |\n|---|---|---|---|---|---|")
    for name in SHARES:
        values = np.array(tally.seconds[name] or [np.nan])
        cells = (f"{value:.2f} s" for value in (*np.percentile(values, (50, 95, 99)), values.max()))
        print(f"| {name} | {len(tally.seconds[name])} | {' | '.join(cells)} |")
    done = sum(len(tally.seconds[name]) for name in ("upscale", "job"))
    memory, sixth = np.array(tally.memory), max(1, len(tally.memory) // 6)
    first, last = memory[sixth : 2 * sixth].mean(), memory[-sixth:].mean()
    print(f"\n{done} pictures delivered ({done / seconds:.1f} a second), {tally.refused} refusals (429)")
    used = {name: f"{seconds:.0f} s" for name, seconds in tally.processor.items()}
    print(f"processor time: server {used['server']}, clients {used['clients']}, in {used['passed']}")
    print(f"lost jobs: {len(tally.lost)}; errors: {dict(tally.errors) or 'none'}")
    print(f"resident memory: {first:.0f} MB in the second sixth of the time, {last:.0f} MB in the last, ", end="")
    print(f"{memory.max():.0f} MB at most")


def main() -> None:
    """Start the server, load it, report, stop it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    if not 1 <= arguments.clients <= MOST_CLIENTS or not 1 <= arguments.seconds <= MOST_SECONDS:
        parser.error(f"up to {MOST_CLIENTS} clients and {MOST_SECONDS} seconds")
    with tempfile.TemporaryDirectory(prefix="tsdsr-load-") as folder:
        command = [sys.executable, "-m", "tsdsr", "serve", "--port", "0", "--engine", "onnx", "--keep", "120"]
        environment = {**os.environ, "TMPDIR": folder}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
            try:
                assert server.stdout is not None
                url = server.stdout.readline().split()[1]
                tally = asyncio.run(load(url, psutil.Process(server.pid), arguments.clients, arguments.seconds))
                report(tally, arguments.clients, arguments.seconds)
                started = time.monotonic()
                server.terminate()
                status = server.wait(60)
                print(f"stopped {time.monotonic() - started:.1f} s after SIGTERM, exit status {status}")
            finally:
                server.kill()
        left = [path.name for path in Path(folder).rglob("*")]
    print(f"files left: {left or 'none'}")
    sys.exit(bool(tally.lost or tally.errors or left))


if __name__ == "__main__":
    main()
