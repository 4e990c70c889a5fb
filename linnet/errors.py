"""The one exception that speaks to users."""


class UserError(Exception):
    """A mistake that the user can fix. Its one line says what was got, what is allowed and what to do.

    The command line prints it without a traceback and exits with code 2; the Python API raises it as it is.
    """
