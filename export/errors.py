"""What stops an export, as one line for the person who ran it."""


class ExportError(Exception):
    """The export cannot go on; the repository is as it was. `code` is the process's exit code."""

    code = 1


class BadInputError(ExportError):
    """A flag, a path or a checkpoint is not right."""

    code = 2
