"""The scripted model under its old name: load tests use it too, so it lives with them."""

from loadtest.scripted_model import Call, Fault, Reply, ScriptedModel

__all__ = ["Call", "Fault", "Reply", "ScriptedModel"]
