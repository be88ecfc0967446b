"""What can go wrong on the user's side; the class decides the exit code of the command (see `client.cli.main`)."""

from shared.errors import PenstockError


class UsageError(PenstockError):
    """The command was called with something that it cannot work with; the text says what was expected."""


class StackError(PenstockError):
    """The embedded stack did not start or stop as it should; the text names the part and its log file."""


class Unreachable(PenstockError):
    """No stack answers at the address."""


class JobRejected(PenstockError):
    """The stack refused a submission; the text names the field and what was expected."""


class JobIdInUse(JobRejected):
    """Another submission has the job's id already."""


class Interrupted(PenstockError):
    """The user pressed Ctrl-C."""


class NotFound(PenstockError):
    """There is no such job, dead letter or session."""


class TimedOut(PenstockError):
    """No answer came in the time that the caller was willing to wait. The work itself goes on."""
