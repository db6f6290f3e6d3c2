class UserError(Exception):
    """Bad input of the user's: shown as one sentence, without a traceback, with exit code 2."""
