"""Definitions of your own beside the tables: what stands in this folder is part of the code location.

`dg scaffold defs dagster.asset assets/x.py` writes here; a file written by hand counts as well.
"""
