"""Processes of one machine, or of several with a common file system, that share work."""
