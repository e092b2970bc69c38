"""Training data: image sources, degradations, datasets, shards and test sets."""
