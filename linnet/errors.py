"""The one exception that speaks to users."""


class UserError(Exception):
    """Something the user can mend: what was got, what is allowed, what to do, in one line.

    The command line prints it without a traceback and exits with code 2; the Python API raises it as it is.
    """
