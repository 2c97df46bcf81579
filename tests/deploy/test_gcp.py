"""deploy/gcp.yaml through Ray's bootstrapping for Google Cloud, and the bodies it sends against Google's own description of its API."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

discovery = pytest.importorskip("googleapiclient.discovery", reason="needs the package's dev extra")

import httplib2  # noqa: E402
from googleapiclient.discovery_cache import get_static_doc  # noqa: E402
from ray.autoscaler._private.gcp import config as gcp_config  # noqa: E402
from ray.autoscaler._private.gcp import node_provider  # noqa: E402
from ray.autoscaler._private.gcp.node import GCPCompute  # noqa: E402
from ray.autoscaler._private.util import prepare_config  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "a-project"


class FakeGoogle:
    """Answers as Google would a project that is there and has a network; keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Any]] = []

    def request(self, uri: str, method: str = "GET", body: Any = None, headers: Any = None, **_: Any) -> tuple[Any, bytes]:
        path = urlsplit(uri).path
        self.sent.append((method, path, json.loads(body) if body else None))
        return httplib2.Response({"status": 200, "content-type": "application/json"}), json.dumps(self.answer(path)).encode()

    def answer(self, path: str) -> dict[str, Any]:
        if path.endswith((":getIamPolicy", ":setIamPolicy")):
            return {"bindings": []}
        if "/serviceAccounts" in path:
            return {"email": f"ray-autoscaler-sa-v1@{PROJECT}.iam.gserviceaccount.com", "projectId": PROJECT}
        if "/operations/" in path or path.endswith(("setCommonInstanceMetadata", "/instances")):
            return {"name": "operation", "status": "DONE", "targetLink": "x/instances/machine"}
        if path.endswith("/subnetworks"):
            return {"items": [{"name": "default", "selfLink": "s", "network": "n", "region": "r"}]}
        if path.startswith("/compute/"):
            return {"name": "machine", "commonInstanceMetadata": {"fingerprint": "f", "items": []}}
        return {"projectId": PROJECT, "lifecycleState": "ACTIVE", "projectNumber": "1"}


def unknown(body: Any, schema: dict[str, Any], schemas: dict[str, Any], where: str) -> list[str]:
    """Where a body differs from Google's description: keys that it lacks, objects that are lists, values that are not allowed."""
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    kind = schema.get("type")
    if kind == "array":
        if not isinstance(body, list):
            return [f"{where} is no list"]
        return [w for i, item in enumerate(body) for w in unknown(item, schema["items"], schemas, f"{where}[{i}]")]
    if kind == "object":
        if not isinstance(body, dict):
            return [f"{where} is no object"]
        found = []
        for key, value in body.items():
            inner = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
            found += unknown(value, inner, schemas, f"{where}.{key}") if inner else [f"{where}.{key} is unknown"]
        return found
    if "enum" in schema and body not in schema["enum"]:
        return [f"{where} = {body}"]
    return [] if isinstance(body, bool) == (kind == "boolean") else [f"{where} = {body!r} is no {kind}"]


@pytest.fixture
def launched(tmp_path, monkeypatch) -> dict[str, Any]:
    """Follow the file's first lines, `ray up` to the launch of one machine a type; answers the bodies sent by type, and Google."""
    monkeypatch.setenv("HOME", str(tmp_path))
    text = (ROOT / "deploy" / "gcp.yaml").read_text(encoding="utf-8")
    text = text.replace("project-SET-ME", PROJECT).replace("image-SET-ME", "common-cu129-ubuntu-2404-nvidia-580-v1")
    google = FakeGoogle()

    def clients(provider_config: dict[str, Any]) -> tuple[Any, ...]:
        names = (("cloudresourcemanager", "v1"), ("iam", "v1"), ("compute", "v1"))
        return (*(discovery.build(*name, http=google, static_discovery=True) for name in names), None)

    monkeypatch.setattr(gcp_config, "construct_clients_from_provider_config", clients)
    monkeypatch.setattr(node_provider, "construct_clients_from_provider_config", clients)
    # Each operation would take a connection of its own.
    monkeypatch.setattr(GCPCompute, "get_new_authorized_http", lambda self, http: http)
    resolved = gcp_config.bootstrap_gcp(prepare_config(yaml.safe_load(text)))
    provider = node_provider.GCPNodeProvider(resolved["provider"], resolved["cluster_name"])
    bodies = {}
    for name, kind in (("head", "head"), ("gpu", "worker")):
        google.sent.clear()
        config = dict(resolved["available_node_types"][name]["node_config"])
        provider.create_node(config, {"ray-node-type": kind, "ray-node-name": f"ray-sacro-ray-{kind}"}, 1)
        (bodies[name],) = [body for method, path, body in google.sent if method == "POST" and path.endswith("/instances")]
    return bodies


def test_google_knows_every_key_that_is_sent(launched):
    schemas = json.loads(get_static_doc("compute", "v1"))["schemas"]
    for name, body in launched.items():
        assert unknown(body, {"$ref": "Instance"}, schemas, name) == []


def test_the_head_is_on_demand_and_the_gpu_machines_are_spot(launched):
    head, gpu = launched["head"], launched["gpu"]
    assert head["machineType"].endswith("/machineTypes/n2-standard-4")
    assert "scheduling" not in head
    assert gpu["machineType"].endswith("/machineTypes/g2-standard-4")
    assert gpu["scheduling"]["provisioningModel"] == "SPOT"
    assert gpu["scheduling"]["onHostMaintenance"] == "TERMINATE", "a machine with a GPU cannot be moved"
    for body, size in ((head, 200), (gpu, 150)):
        (disk,) = body["disks"]
        assert (disk["initializeParams"]["diskSizeGb"], disk["autoDelete"]) == (size, True)
        assert disk["initializeParams"]["sourceImage"].endswith("/images/common-cu129-ubuntu-2404-nvidia-580-v1")


def test_the_check_finds_what_is_wrong(launched):
    schemas = json.loads(get_static_doc("compute", "v1"))["schemas"]
    wrong = {**launched["gpu"], "scheduling": [{"preemptible": True}], "spots": 1}
    assert unknown(wrong, {"$ref": "Instance"}, schemas, "gpu") == ["gpu.scheduling is no object", "gpu.spots is unknown"]
