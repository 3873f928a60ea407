"""`python -m run_elt_dagster.cli` is `run-elt`."""

import sys

from run_elt_dagster.cli import main

sys.exit(main())
