"""Names of spans, attributes and metrics are those of OpenTelemetry's conventions, as far as these have a name."""

import re
from pathlib import Path

from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, messaging_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics, messaging_metrics
from opentelemetry.semconv.attributes import error_attributes

from shared import telemetry

ROOT = Path(__file__).parents[2]
KNOWN = {
    value
    for module in (gen_ai_attributes, messaging_attributes, error_attributes, gen_ai_metrics, messaging_metrics)
    for name, value in vars(module).items()
    if name.isupper() and isinstance(value, str)
}
NAME = re.compile(r'"((?:messaging|gen_ai|penstock|error)\.[a-z_.]+)"')


def test_every_name_is_of_the_conventions_or_ours() -> None:
    used = set(NAME.findall((ROOT / "shared" / "telemetry.py").read_text()))
    assert len(used) > 20
    assert {name for name in used if not name.startswith("penstock.")} <= KNOWN


def test_names_stand_in_one_file() -> None:
    folders = ("shared", "services", "client")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if path.name != "telemetry.py"]
    conventional = re.compile(r'"(?:messaging|gen_ai)\.[a-z_.]+"')
    assert [str(path) for path in files if conventional.search(path.read_text())] == []


def test_the_attributes_that_conventions_require_are_there() -> None:
    required = {telemetry.SYSTEM, telemetry.OPERATION_NAME, telemetry.GEN_AI_OPERATION, telemetry.TOKEN_TYPE}
    assert required <= KNOWN
