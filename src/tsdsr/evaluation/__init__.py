"""Scores as the papers compute them, published figures to compare with, and reports."""
