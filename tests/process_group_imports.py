"""What processes of a group need; imported once, by the server that they are forked from."""

import accelerate
import torch.distributed.checkpoint
import torch.distributed.fsdp

import tsdsr.training.student

__all__ = ["accelerate", "torch", "tsdsr"]
