"""Files that libraries open by themselves run no code."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import pytest
import torch

from tsdsr.errors import WeightsError
from tsdsr.evaluation.peers import read_state_dict
from tsdsr.unpickling import tensors_only


class Touches(torch.nn.Module):
    """A module whose TorchScript form writes a file when it is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.training = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.weight

    @torch.jit.export
    def __getstate__(self) -> tuple[bool, torch.Tensor]:
        return (self.training, torch.zeros(3))

    @torch.jit.export
    def __setstate__(self, state: tuple[bool, torch.Tensor]) -> None:
        self.training = state[0]
        self.weight = state[1]
        torch.save(torch.zeros(1), "touched")


class Runs:
    """A pickle that would write a file."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("touched"),))


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Touches()).save("evil.pt")
    Path("touched").unlink(missing_ok=True)
    return tmp_path / "evil.pt"


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt"])
def test_torchscript_is_no_peer(script: Path, suffix: str) -> None:
    path = script.rename(script.with_suffix(suffix))
    with pytest.raises(WeightsError, match=r"evil.*is a TorchScript program.*state dict or safetensors"):
        read_state_dict(path)
    assert not Path("touched").exists()


def test_pickles_with_code_are_no_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"params": Runs()}, "code.pth")
    torch.save(["no", "state", "dict"], "list.pth")
    for name, message in (("code.pth", "more than weights"), ("list.pth", "contains no state dict")):
        with pytest.raises(WeightsError, match=message):
            read_state_dict(name)
    assert not Path("touched").exists()


def test_libraries_cannot_ask_for_more_than_tensors(script: Path) -> None:
    torch.save({"weight": torch.ones(2), "other": Runs()}, "code.pth")
    torch.save({"weight": torch.ones(2)}, "plain.pth")
    loaders = (torch.load, torch.jit.load)
    with tensors_only():
        assert torch.equal(torch.load("plain.pth", weights_only=False)["weight"], torch.ones(2))
        with pytest.raises(pickle.UnpicklingError):
            torch.load("code.pth", weights_only=False)
        with script.open("rb") as file, pytest.raises(pickle.UnpicklingError, match="TorchScript"):
            torch.jit.load(file)
        with pytest.raises(pickle.UnpicklingError, match="TorchScript"):
            torch.jit.load(str(script))
    assert (torch.load, torch.jit.load) == loaders
    assert not Path("touched").exists()
