"""`ray up cluster.yaml` against moto's EC2, up to the launch of the machines; only the ssh into them is missing."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

boto3 = pytest.importorskip("boto3", reason="needs the package's dev extra")
moto = pytest.importorskip("moto", reason="needs the package's dev extra")

from ray.autoscaler._private import commands  # noqa: E402
from ray.autoscaler._private.aws import config as aws_config  # noqa: E402
from ray.autoscaler._private.providers import _get_node_provider  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
REGION = "eu-central-1"


class NoSsh:
    """In place of Ray's updater, which would go into the machine by ssh: keeps what it was to do there."""

    asked: list[dict[str, Any]] = []  # noqa: RUF012

    def __init__(self, **what: Any) -> None:
        self.asked.append(what)
        self.exitcode = 0

    def start(self) -> None: ...

    def join(self) -> None: ...


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """Follow the file's own first lines: set the image, `ray up`; answers (resolved configuration, image, what was asked by ssh)."""
    tmp_path, monkeypatch = tmp_path_factory.mktemp("aws"), pytest.MonkeyPatch()
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0" * 64)
    monkeypatch.setattr(commands, "NodeUpdaterThread", NoSsh)
    # Ray waits 15 s for a new role to be known everywhere.
    monkeypatch.setattr(aws_config, "time", SimpleNamespace(sleep=lambda seconds: None))
    NoSsh.asked.clear()
    with moto.mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        image = boto3.client("ec2", REGION).describe_images()["Images"][0]["ImageId"]
        file = tmp_path / "cluster.yaml"
        text = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
        assert text.count("ami-SET-ME") == 2, "the sed line at the top, and the one place it changes"
        file.write_text(text.replace("ami-SET-ME", image), encoding="utf-8")
        resolved = commands.create_or_update_cluster(
            str(file), None, None, no_restart=False, restart_only=False, yes=True, no_config_cache=True
        )
        yield resolved, image, NoSsh.asked[0]
    monkeypatch.undo()


def instances() -> list[dict[str, Any]]:
    reservations = boto3.client("ec2", REGION).describe_instances()["Reservations"]
    return [instance for reservation in reservations for instance in reservation["Instances"]]


def volume_of(instance: dict[str, Any]) -> dict[str, Any]:
    (device,) = instance["BlockDeviceMappings"]
    found: dict[str, Any] = boto3.client("ec2", REGION).describe_volumes(VolumeIds=[device["Ebs"]["VolumeId"]])["Volumes"][0]
    return found


def head_instance() -> dict[str, Any]:
    (head,) = [i for i in instances() if {"Key": "ray-node-type", "Value": "head"} in i["Tags"]]
    return head


def test_the_head_is_on_demand_and_the_gpu_machines_are_spot(up):
    resolved, image, _ = up
    head = head_instance()
    assert instances() == [head]
    assert (head["InstanceType"], head["ImageId"]) == ("m6i.xlarge", image)
    assert head.get("InstanceLifecycle") != "spot"
    assert "IamInstanceProfile" in head
    assert (volume_of(head)["Size"], volume_of(head)["VolumeType"], volume_of(head)["Encrypted"]) == (200, "gp3", True)

    provider = _get_node_provider(resolved["provider"], resolved["cluster_name"])
    provider.create_node(resolved["available_node_types"]["gpu"]["node_config"], {"ray-node-type": "worker"}, 1)
    (worker,) = [instance for instance in instances() if instance["InstanceId"] != head["InstanceId"]]
    assert (worker["InstanceType"], worker["ImageId"]) == ("g5.xlarge", image)
    assert worker["InstanceLifecycle"] == "spot"
    assert (volume_of(worker)["Size"], volume_of(worker)["Encrypted"]) == (150, True)
    assert "IamInstanceProfile" not in worker, "a spot machine needs no rights"
    assert [group["GroupId"] for group in worker["SecurityGroups"]] == [group["GroupId"] for group in head["SecurityGroups"]]


def test_from_outside_only_ssh_is_open(up):
    head = head_instance()
    (group,) = boto3.client("ec2", REGION).describe_security_groups(GroupIds=[head["SecurityGroups"][0]["GroupId"]])[
        "SecurityGroups"
    ]
    assert group["GroupName"] == "sacro-ray"
    outside = [rule for rule in group["IpPermissions"] if rule["IpRanges"] or rule.get("Ipv6Ranges")]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in outside] == [(22, 22)]
    inside = [rule for rule in group["IpPermissions"] if rule["UserIdGroupPairs"]]
    assert {pair["GroupId"] for rule in inside for pair in rule["UserIdGroupPairs"]} == {group["GroupId"]}


def test_the_head_starts_ray_shut_and_scales_from_none_to_four(up):
    resolved, _, asked = up
    assert asked["is_head_node"]
    start = " ".join(asked["ray_start_commands"])
    for word in ("RAY_AUTH_MODE=token", "--dashboard-host=127.0.0.1", "--num-cpus=0", "--autoscaling-config"):
        assert word in start
    gpu = resolved["available_node_types"]["gpu"]
    # Ray adds memory and the kind of GPU, which EC2 knows of the instance type.
    assert (gpu["min_workers"], gpu["max_workers"], gpu["resources"]["CPU"], gpu["resources"]["GPU"]) == (0, 4, 4, 1)
    assert gpu["resources"]["accelerator_type:A10G"] == 1
    assert resolved["idle_timeout_minutes"] == 10
