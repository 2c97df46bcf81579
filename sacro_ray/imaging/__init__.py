"""Pixels and grades: one file becomes one grey image, readings become one reference label."""
