"""Typed settings, the YAML that fills them, and the wiring that they imply."""
