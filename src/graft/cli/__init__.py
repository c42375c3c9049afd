"""The command line: a file for each command."""

import time

# When the command began, on the clock of time.perf_counter: the time that it may take counts from here.
BEGAN = time.perf_counter()
