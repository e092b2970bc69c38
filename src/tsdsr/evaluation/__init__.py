"""Evaluation: metrics as the papers compute them, published results for comparison, and reports."""
