"""The only package that knows Ray."""
