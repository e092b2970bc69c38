"""From image files to image files: the one-step pipeline, tiling, colour, reading and writing."""
