"""Which jobs have been cancelled: fed by the CONTROL stream, asked at every hop."""

from collections import OrderedDict

_KEEP = 100_000


class Cancels:
    """The cancelled jobs that this process has heard of; the oldest are forgotten first."""

    def __init__(self) -> None:
        self._reasons: OrderedDict[tuple[str, str], str] = OrderedDict()

    def add(self, tenant: str, job: str, reason: str) -> None:
        self._reasons[tenant, job] = f"cancelled: {reason}" if reason else "cancelled by the user"
        if len(self._reasons) > _KEEP:
            self._reasons.popitem(last=False)

    def reason(self, tenant: str, job: str) -> str | None:
        """Why a job was cancelled; None where it was not."""
        return self._reasons.get((tenant, job))
