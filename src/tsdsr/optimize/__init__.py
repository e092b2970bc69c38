"""The same student smaller, faster or in another runtime, and the proof that it is."""
