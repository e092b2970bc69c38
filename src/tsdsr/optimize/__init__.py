"""Making pipelines faster and smaller, and measuring that they are."""
