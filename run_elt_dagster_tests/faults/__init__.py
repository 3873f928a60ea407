"""Faults, interleavings and killed processes, tried for as long as somebody likes: `make faults FOR=10m`.

docs/reliability.md names the promises that are tried here.
"""
