"""Reads documents out of source systems, one module each; connectors do not know each other."""
