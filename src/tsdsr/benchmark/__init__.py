"""Timing of models, part by part."""
