"""Faults for real: scenarios that hurt a run, checkers that look at what is left. See `python benchmarks/chaos --help`."""
