"""What the command line shows as one sentence in place of a traceback."""


class InputError(ValueError):
    """Bad input of the user's (a file, a flag, a plan): exit code 2."""


class OutputError(RuntimeError):
    """Output that could not be written: exit code 1."""
