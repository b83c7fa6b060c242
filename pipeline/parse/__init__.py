"""Bytes to text with structure (headings, pages, offsets), by media type."""
