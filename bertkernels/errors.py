class InputError(ValueError):
    """Bad input of the user's (a file, a flag, a plan). The command line shows it as one sentence with exit code 2."""
