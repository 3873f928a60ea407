"""Tests of a table's SQL without a warehouse: rows of the upstream tables in, rows of the table out.

`<table>.test.yaml` beside `<table>.sql` has the cases. `run-elt test` and the pytest plugin run them.
"""
