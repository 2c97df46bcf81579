"""Simulated pelvic radiographs, readers and cohorts."""
