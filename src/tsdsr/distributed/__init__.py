"""Archives of pictures on many machines, with Ray Data."""
