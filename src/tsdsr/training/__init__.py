"""Training: configuration, the trainer, checkpoints. Never imports the pipeline."""
