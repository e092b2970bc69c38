"""Make a student smaller or faster: exact folding, 8-bit quantisation and ``torch.compile``."""
