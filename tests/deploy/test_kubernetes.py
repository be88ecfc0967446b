"""The manifests fit the schemas of Kubernetes and KEDA, and every name in them exists in the code."""

import json
import re
from pathlib import Path

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]  # it brings no types
import pytest
import yaml
from in_process import Core
from manifests import MANIFESTS, OVERLAYS, ROOT, Manifest, built, environment, of_kind, pods, resources

from client.stack.compose import MOUNTED, NATS_VARIABLE, REPLICAS_VARIABLE, Compose
from client.stack.config import MAX_PAYLOAD, SERVICES
from client.stack.secrets import DEFAULT_TENANT
from contracts.accounts import SERVICES as ACCOUNT
from contracts.accounts import queue
from contracts.subjects import WORK
from services.generate_gpu.config import GenerateSettings
from services.ingest.config import IngestSettings
from services.judge.config import JudgeSettings
from services.memory.config import MemorySettings
from services.rerank.config import RerankSettings
from services.retrieve.config import RetrieveSettings
from services.route.adapters.opener import DURABLE
from services.route.config import RouteSettings
from shared.models import load_catalogue
from shared.settings import ServiceSettings, StackSettings

SETTINGS: tuple[type[ServiceSettings], ...] = (
    IngestSettings, RetrieveSettings, RerankSettings, RouteSettings, GenerateSettings, JudgeSettings, MemorySettings,
)  # fmt: skip
VERSIONS = ("1.30", "1.37")
OTHERS = {"HF_HOME", "POD_NAME", "GOMEMLIMIT"}
"""Variables of vLLM, of nats.conf and of Go."""

EACH_OVERLAY = pytest.mark.parametrize("overlay", OVERLAYS)
EACH_VERSION = pytest.mark.parametrize("version", VERSIONS)


def deployment_of(service: str) -> str:
    return {"generate": "generate-gpu"}.get(service, service)


@EACH_VERSION
def test_every_resource_fits_its_schema(version: str) -> None:
    assert len(resources()) > 20
    for each in resources():
        check(each, version)


@EACH_VERSION
@EACH_OVERLAY
def test_what_is_put_together_fits_its_schema(overlay: str, version: str) -> None:
    for each in built(overlay):
        check(each, version)


def check(manifest: Manifest, version: str) -> None:
    if manifest["kind"] == "ScaledObject":
        schema = json.loads((Path(__file__).parent / "keda-scaledobject.schema.json").read_text())
        jsonschema.validate(manifest, schema)
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_check_finds_what_is_wrong() -> None:
    service = next(each for each in resources() if each["kind"] == "Service")
    with pytest.raises(Exception, match="clusterIp"):
        check({**service, "spec": {**service["spec"], "clusterIp": "None"}}, VERSIONS[0])
    scaled = next(each for each in resources() if each["kind"] == "ScaledObject")
    with pytest.raises(jsonschema.ValidationError, match="minReplicas"):
        check({**scaled, "spec": {**scaled["spec"], "minReplicas": 1}}, VERSIONS[0])


@EACH_OVERLAY
def test_every_pod_is_confined_and_says_what_it_needs(overlay: str) -> None:
    for name, pod in pods(built(overlay)).items():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for box in pod["containers"]:
            assert box["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }, name  # fmt: skip
            assert {"cpu", "memory"} <= box["resources"]["limits"].keys() & box["resources"]["requests"].keys(), name
            assert name == "provision" or {"readinessProbe", "livenessProbe"} <= box.keys(), name
            assert not any(re.search(r"pass|key|token", word, re.I) for word in environment(pod)), name


@EACH_OVERLAY
def test_every_service_has_its_deployment_budget_and_addresses(overlay: str) -> None:
    manifests = built(overlay)
    deployments, budgets = of_kind(manifests, "Deployment"), of_kind(manifests, "PodDisruptionBudget")
    assert deployments.keys() == {deployment_of(service) for service in SERVICES}
    assert budgets.keys() == deployments.keys() | {"nats"}
    for service, module in SERVICES.items():
        name = deployment_of(service)
        pod = pods(manifests)[name]
        assert [box["args"] for box in pod["containers"]] == [[module]]
        secrets = [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
        assert secrets == [f"penstock-{name}"]
        assert pod["terminationGracePeriodSeconds"] > 15


@EACH_OVERLAY
def test_every_variable_is_one_that_somebody_reads(overlay: str) -> None:
    stack = {f"PENSTOCK_{field.upper()}" for field in StackSettings.model_fields}
    own = {kind.service: {f"PENSTOCK_{kind.service}_{f}".upper() for f in kind.model_fields} for kind in SETTINGS}
    for name, pod in pods(built(overlay)).items():
        service = {"generate-gpu": "generate"}.get(name, name)
        known = {NATS_VARIABLE, REPLICAS_VARIABLE} if name == "provision" else stack | own.get(service, set())
        assert environment(pod).keys() <= known | OTHERS, name
        if service in SERVICES:
            assert environment(pod).keys() >= {"PENSTOCK_READY_FILE", "PENSTOCK_METRICS_PORT", "PENSTOCK_ACCOUNTS"}


def test_probes_look_where_the_image_does() -> None:
    image = (ROOT / "Dockerfile").read_text()
    for service in SERVICES:
        pod = pods(built("base"))[deployment_of(service)]
        (box,) = pod["containers"]
        assert f"PENSTOCK_READY_FILE={environment(pod)['PENSTOCK_READY_FILE']}" in image
        assert box["readinessProbe"]["exec"]["command"][2] in image
        (port,) = box["ports"]
        assert (port["name"], str(port["containerPort"])) == ("metrics", environment(pod)["PENSTOCK_METRICS_PORT"])
        assert box["livenessProbe"]["httpGet"] == {"path": "/metrics", "port": "metrics"}


def test_images_are_those_of_compose() -> None:
    composed = {each["image"].partition(":$")[0] for each in yaml.safe_load(compose())["services"].values()}
    targets = set(re.findall(r"^FROM .* AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    for pod in pods(built("overlays/gpu")).values():
        for box in pod["containers"]:
            image = box["image"].removesuffix(":dev")
            assert image in composed or image.removeprefix("penstock-") in targets, image


def compose() -> str:
    return (ROOT / "compose.yaml").read_text()


def test_ports_that_policies_open_are_listened_on() -> None:
    manifests = built("base")
    boxes = [box for pod in pods(manifests).values() for box in pod["containers"]]
    listened = {port["containerPort"] for box in boxes for port in box.get("ports", [])}
    others = {53, 443, 4318, 6333, 8000, 9200}  # names, models, OTLP, Qdrant, OpenSearch
    for policy in of_kind(manifests, "NetworkPolicy").values():
        rules = [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]
        assert {port["port"] for rule in rules for port in rule["ports"]} <= listened | others


def test_secrets_are_made_of_what_make_secrets_writes(tmp_path: Path) -> None:
    generated = yaml.safe_load((MANIFESTS / "secrets" / "kustomization.yaml").read_text())["secretGenerator"]
    inside = environment(pods(built("base"))["provision"])[NATS_VARIABLE]
    Compose(tmp_path, "nats.example.com:4222", inside).write()
    for secret in generated:
        for entry in secret["files"]:
            assert (tmp_path / entry.rpartition("=")[2]).is_file(), entry
    volumes = [volume for pod in pods(built("base")).values() for volume in pod["volumes"]]
    wanted = {volume["secret"]["secretName"] for volume in volumes if "secret" in volume}
    assert wanted == {secret["name"] for secret in generated}
    assert (tmp_path / "route.nats").read_text().endswith("@" + inside)
    (mount, _) = pods(built("base"))["provision"]["containers"][0]["volumeMounts"]
    assert Path(mount["mountPath"]) / "secrets.json" == MOUNTED


def test_the_configuration_of_nats_agrees_with_that_of_the_other_stacks() -> None:
    text = (MANIFESTS / "base" / "nats" / "nats.conf").read_text()
    assert f"max_payload: {MAX_PAYLOAD}\n" in text
    replicas = {environment(pod).get(REPLICAS_VARIABLE) for pod in pods(built("base")).values()} - {None}
    assert replicas == {str(of_kind(built("base"), "StatefulSet")["nats"]["spec"]["replicas"])} == {"3"}
    assert set(re.findall(r"nats-\d\.nats", text)) == {f"nats-{n}.nats" for n in range(3)}


@pytest.mark.servers
async def test_scalers_look_at_consumers_that_there_are(core: Core) -> None:
    for kind in SETTINGS:
        await core.worker(kind(ack_wait_s=2)).start()
    made = {(WORK.name, each.name) for each in await core.bus.js.consumers_info(WORK.name)}
    made.add((queue(DEFAULT_TENANT).name, DURABLE))
    scaled = {each["metadata"]["name"]: each["spec"] for each in resources() if each["kind"] == "ScaledObject"}
    assert scaled.keys() == {deployment_of(service) for service in SERVICES}
    looked = set()
    for name, spec in scaled.items():
        assert spec["scaleTargetRef"] == {"name": name}
        triggers = [each["metadata"] for each in spec["triggers"] if each["type"] == "nats-jetstream"]
        assert all(each["account"] == ACCOUNT for each in triggers)
        assert all(deployment_of(each["consumer"].partition("-")[0]) == name for each in triggers)
        looked |= {(each["stream"], each["consumer"]) for each in triggers}
    assert looked == made


def test_the_catalogue_of_the_overlay_is_one() -> None:
    catalogue = load_catalogue(MANIFESTS / "overlays" / "gpu" / "models.yaml")
    assert catalogue.get("house").engine == "vllm"
    manifests = built("overlays/gpu")
    (config,) = (each for each in manifests if each["kind"] == "ConfigMap" and "models.yaml" in each["data"])
    for name in ("route", "generate-gpu"):
        pod = pods(manifests)[name]
        assert environment(pod)["PENSTOCK_MODELS"] == "/etc/penstock/models.yaml"
        assert config["metadata"]["name"] in [v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v]
