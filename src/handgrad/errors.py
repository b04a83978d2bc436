"""The one error a user may see: a sentence with the rule, the facts and the remedy."""


class UserError(Exception):
    """Something the user can mend. The text is the whole message: no traceback is needed to act on it.

    It is raised once, at the boundary where the input enters; the command line prints it and exits with 2.
    """
