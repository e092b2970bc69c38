"""A running ComfyUI with this pack, and the messages that it sends while it runs a prompt."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from PIL import Image

PACK = Path(__file__).resolve().parents[1]
_FINAL = ("execution_success", "execution_error", "execution_interrupted")

Prompt = dict[str, dict[str, Any]]
Message = dict[str, Any]


@dataclass
class Run:
    """What happened to a prompt.

    Attributes:
        messages (list): the server's messages about it, in order: ``{"type": …, "data": …}``.
        images (list of ndarray): the saved pictures, (H, W, C), uint8.
    """

    messages: list[Message] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)

    @property
    def state(self) -> str:
        return str(self.messages[-1]["type"])

    @property
    def error(self) -> str:
        return str(self.messages[-1]["data"].get("exception_message", "")).strip()

    def progress(self, node: str) -> list[tuple[int, int]]:
        """Return (value, max) of the progress bar of a node."""
        return [
            (message["data"]["value"], message["data"]["max"])
            for message in self.messages
            if message["type"] == "progress" and message["data"]["node"] == node
        ]


@dataclass
class Comfy:
    """A client of a running ComfyUI.

    Attributes:
        url (str): its address.
        session (aiohttp.ClientSession): connection.
    """

    url: str
    session: aiohttp.ClientSession

    async def get(self, path: str) -> Any:
        async with self.session.get(self.url + path) as answer:
            answer.raise_for_status()
            return await answer.json() if answer.content_type == "application/json" else await answer.read()

    async def post(self, path: str, content: Any = None) -> tuple[int, Any]:
        async with self.session.post(self.url + path, json=content or {}) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def run(self, prompt: Prompt, on_message: Callable[[Message], Awaitable[None]] | None = None) -> Run:
        """Queue a prompt, wait for its end, and fetch the pictures that it saved."""
        client, run = uuid.uuid4().hex, Run()
        async with self.session.ws_connect(f"{self.url}/ws?clientId={client}", max_msg_size=0) as socket:
            status, answer = await self.post("/prompt", {"prompt": prompt, "client_id": client})
            if status != 200:
                raise AssertionError(f"refused: {answer}")
            async for packet in socket:
                if packet.type != aiohttp.WSMsgType.TEXT:
                    continue
                message = json.loads(packet.data)
                if message["data"].get("prompt_id") != answer["prompt_id"]:
                    continue
                run.messages.append(message)
                if on_message:
                    await on_message(message)
                if message["type"] in _FINAL:
                    break
        for output in (await self._outputs(answer["prompt_id"])).values():
            for image in output.get("images", []):
                name = f"filename={image['filename']}&subfolder={image['subfolder']}&type={image['type']}"
                run.images.append(np.asarray(Image.open(BytesIO(await self.get(f"/view?{name}")))))
        return run

    async def _outputs(self, identifier: str) -> dict[str, Any]:
        """Return what a finished prompt left, which ComfyUI records just after its last message."""
        while identifier not in (history := await self.get(f"/history/{identifier}")):
            await asyncio.sleep(0.05)
        outputs: dict[str, Any] = history[identifier]["outputs"]
        return outputs


@asynccontextmanager
async def running(checkout: Path, base: Path, port: int) -> AsyncIterator[Comfy]:
    """Start ComfyUI on the CPU with this pack, and stop it at the end.

    Args:
        checkout (Path): ComfyUI's repository.
        base (Path): folder for its data; holds ``server.log`` afterwards.
        port (int): on 127.0.0.1.
    """
    options = ["--cpu", "--listen", "127.0.0.1", "--port", str(port), "--base-directory", str(base)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    with (base / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "main.py", *options], cwd=checkout, env=environment, stdout=log, stderr=log
        )
        try:
            async with aiohttp.ClientSession() as session:
                comfy = Comfy(f"http://127.0.0.1:{port}", session)
                await _answering(comfy, server)
                yield comfy
        finally:
            server.terminate()
            server.wait(30)


async def _answering(comfy: Comfy, server: subprocess.Popen[bytes], seconds: int = 180) -> None:
    for _ in range(4 * seconds):
        try:
            await comfy.get("/system_stats")
            return
        except aiohttp.ClientError:
            if server.poll() is not None:
                raise SystemExit("ComfyUI ended; see server.log") from None
            await asyncio.sleep(0.25)
    raise SystemExit("ComfyUI does not answer; see server.log")


def make_base(base: Path, mini: Path) -> None:
    """Fill a folder for ComfyUI's data: this pack, the packaged model as a folder and as a file.

    Args:
        base (Path): an empty folder.
        mini (Path): the pipeline folder of `mini`.
    """
    for name in ("input", "output", "temp", "user", "custom_nodes", "models/upscale_models", "models/tsdsr"):
        (base / name).mkdir(parents=True)
    (base / "custom_nodes" / "comfyui-tsdsr").symlink_to(PACK, target_is_directory=True)
    (base / "models" / "tsdsr" / "my-mini").symlink_to(mini, target_is_directory=True)
    weights = mini / "denoiser" / "diffusion_pytorch_model.safetensors"
    shutil.copyfile(weights, base / "models" / "upscale_models" / "tsdsr-mini.safetensors")
