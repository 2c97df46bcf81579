"""Statistics, figures and the report: pure functions over predictions."""
