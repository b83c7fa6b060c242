"""One module for each embedding service."""
