"""Videos: frames through a pipeline, everything else kept."""
