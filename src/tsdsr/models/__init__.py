"""Denoiser networks behind one protocol, the table of supported base models, conditioning and LoRA."""
