"""The command line: one file per command."""

import time

# When the command began, by time.perf_counter: its time limit counts from here.
BEGAN = time.perf_counter()
