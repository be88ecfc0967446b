"""Names of replicas: each its own wherever it runs, and fit for a subject."""

import os
import socket

import pytest

from contracts.subjects import TOKEN
from shared.service import _replica


def test_processes_of_the_same_number_in_two_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    names = set()
    for host in (
        "98835b20d8e6",
        "generate-gpu-6c8f9d7b4-x2x9z",
        "node.example.com",
        "a" * 200 + "-1",
        "a" * 200 + "-2",
    ):
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        names.add(_replica("generate"))
    assert len(names) == 5
    assert all(TOKEN.match(name) for name in names)
