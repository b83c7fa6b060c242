"""A stand-in for the embedding services: an HTTP server on this machine, as strict as their documentation.

Its vectors are digests: the same for the same texts, and without any meaning. docs/fake-service.md says what
it is for, and how it is used from tests.
"""
