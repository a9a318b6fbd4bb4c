"""Measurements against peers and against the machine's own limits; see benchmarks.harness."""
