"""The one-step pipeline: from image files to image files, with tiling and colour alignment."""
