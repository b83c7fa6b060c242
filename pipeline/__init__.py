"""Turns documents into searchable, embedded chunks. Knows no source system, no scheduler, no web."""
