"""Which jobs have been cancelled: fed by the CONTROL stream, asked at every hop."""

from collections import OrderedDict, defaultdict

_KEEP = 10_000


class Cancels:
    """The cancelled jobs that this process has heard of; of each tenant the oldest are forgotten first."""

    def __init__(self) -> None:
        self._reasons: defaultdict[str, OrderedDict[str, str]] = defaultdict(OrderedDict)

    def add(self, tenant: str, job: str, reason: str) -> None:
        reasons = self._reasons[tenant]
        reasons[job] = f"cancelled: {reason}" if reason else "cancelled by the user"
        if len(reasons) > _KEEP:
            reasons.popitem(last=False)

    def reason(self, tenant: str, job: str) -> str | None:
        """Why a job was cancelled; None where it was not."""
        reasons = self._reasons.get(tenant)
        return None if reasons is None else reasons.get(job)
