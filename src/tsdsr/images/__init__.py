"""Image files and what they hold: reading, writing, colour, metadata, transparency. No model, no torch."""
