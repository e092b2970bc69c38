"""Degradation, datasets and the shared resize. Imports no sibling package."""
