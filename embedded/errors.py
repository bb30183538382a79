"""The errors of running a repository here. Each carries the one line that its user reads."""

from __future__ import annotations


class EmbeddedError(Exception):
    """Something the user can put right: a busy port, a missing repository, a wrong package. Exit code 2."""

    exit_code = 2


class ServiceFailedError(EmbeddedError):
    """Triton or the gateway did not start, or ended on its own. The message ends with its log lines. Exit code 1."""

    exit_code = 1
