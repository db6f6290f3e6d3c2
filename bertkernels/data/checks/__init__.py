"""Checks of folders of task data, file by file: what is there, what is missing, what cannot be used."""
