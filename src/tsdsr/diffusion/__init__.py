"""Noising processes and losses as pure tensor functions, independent of any network."""

from tsdsr.diffusion.process import FlowMatching, NoiseProcess, VariancePreserving

__all__ = ["FlowMatching", "NoiseProcess", "VariancePreserving"]
