"""The manifests of Kubernetes, read as they lie there and as Kustomize puts them together."""

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("base", "overlays/scaled", "overlays/gpu")

Manifest = dict[str, Any]


def resources() -> list[Manifest]:
    """Every object that some kustomization lists as a resource."""
    found: list[Manifest] = []
    for overlay in OVERLAYS:
        folder = MANIFESTS / overlay
        listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
        files = [folder / name for name in listed if name.endswith(".yaml")]
        found += [each for file in files for each in yaml.safe_load_all(file.read_text())]
    return found


@cache
def built(overlay: str) -> tuple[Manifest, ...]:
    """What `kubectl apply -k` would send; skips the test where nothing here can put it together."""
    if shutil.which("kubectl"):
        command = ["kubectl", "kustomize"]
    elif shutil.which("kustomize"):
        command = ["kustomize", "build"]
    else:
        pytest.skip("neither kubectl nor kustomize is on the path")
    done = subprocess.run([*command, str(MANIFESTS / overlay)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(manifests: tuple[Manifest, ...], *kinds: str) -> dict[str, Manifest]:
    """By name, of these kinds."""
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] in kinds}


def pods(manifests: tuple[Manifest, ...]) -> dict[str, Manifest]:
    """The specification of each pod that something makes, by its maker's name."""
    makers = of_kind(manifests, "Deployment", "StatefulSet", "Job")
    return {name: maker["spec"]["template"]["spec"] for name, maker in makers.items()}


def environment(pod: Manifest) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for box in pod["containers"] for each in box.get("env", [])}
