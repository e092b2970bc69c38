"""The mathematics: noising processes and losses. Pure tensors; never sees a network's class."""

from tsdsr.diffusion.process import FlowMatching, NoiseProcess, VariancePreserving

__all__ = ["FlowMatching", "NoiseProcess", "VariancePreserving"]
