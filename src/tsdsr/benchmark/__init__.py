"""Time models, part by part."""
