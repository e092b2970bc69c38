"""Small faults, one at a time, that the tests of the package must notice."""

from mutations.data import DATA
from mutations.diffusion import DIFFUSION
from mutations.fault import Fault
from mutations.training import TRAINING

FAULTS: tuple[Fault, ...] = (*DIFFUSION, *TRAINING, *DATA)

__all__ = ["FAULTS", "Fault"]
