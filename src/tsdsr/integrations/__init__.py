"""What other programs need to use this package: spandrel, the model hub."""
