"""The web server: a page and an HTTP interface around one shared model."""
