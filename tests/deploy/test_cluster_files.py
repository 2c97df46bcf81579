"""The cluster files against Ray's own schema and defaults, and what must hold of each."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[2]
FILES = ["cluster.yaml", "deploy/gcp.yaml", "deploy/on-premises.yaml"]
COMMANDS = [
    "initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands", "head_start_ray_commands",
    "worker_start_ray_commands",
]  # fmt: skip

pytestmark = pytest.mark.parametrize("name", FILES)


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return found


def test_ray_takes_it(name):
    config = prepare_config(load(name))
    validate_config(config)
    assert config["head_node_type"] in config["available_node_types"]


def test_its_first_lines_say_how_to_use_it(name):
    head = (ROOT / name).read_text(encoding="utf-8").split("\n\n")[0]
    assert re.findall(r"^#  (\d)\.", head, re.MULTILINE) == ["1", "2", "3", "4", "5"]
    for word in (
        "ray get-auth-token --generate",
        f"ray up {name}",
        f"ray dashboard {name}",
        "ray job submit",
        f"ray down {name}",
    ):
        assert word in head


@pytest.mark.parametrize("kind", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_ray_starts_with_a_token_in_the_folder_that_paths_are_relative_to(name, kind):
    (start,) = [command for command in load(name)[kind] if "ray start" in command]
    assert "RAY_AUTH_MODE=token" in start.split("ray start")[0]
    assert start.startswith("cd ~/sacro_ray && ")


def test_the_dashboard_and_its_jobs_are_reached_from_the_head_alone(name):
    start = " ".join(load(name)["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start
    assert not re.search(r"\b0\.0\.0\.0", (ROOT / name).read_text(encoding="utf-8"))
    assert "IpPermissions" not in str(load(name)["provider"]), "no door of our own"


def test_no_cohort_shard_or_result_travels_unasked(name):
    config = load(name)
    sources = set(config["file_mounts"].values())
    assert sources == {
        "sacro_ray", "experiments", "deploy", "pyproject.toml", "constraints.txt", "README.md", "~/.ray/auth_token",
    }  # fmt: skip
    assert all((ROOT / source).exists() for source in sources if not source.startswith("~"))
    # Ray gives these to rsync as they are; anchored, so that experiments/runs stays and nothing else is lost.
    assert {"/runs", "__pycache__"} <= set(config["rsync_exclude"])


def test_the_token_is_no_ones_to_read(name):
    config = load(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]
    assert not re.search(r"RAY_AUTH_TOKEN\b|aws_secret|_KEY=", (ROOT / name).read_text(encoding="utf-8"))


def test_every_command_is_bash(name):
    config = load(name)
    for command in (command for kind in COMMANDS for command in config.get(kind, [])):
        subprocess.run(["bash", "-n", "-c", command], check=True)


def test_dependencies_are_installed_once_and_again_when_they_change(name, tmp_path):
    """Runs the file's own line, with a home whose `python3 -m venv` only takes notes."""
    (line,) = [command for command in load(name)["setup_commands"] if "pip install" in command]
    assert "--constraint constraints.txt" in line
    project = tmp_path / "sacro_ray"
    project.mkdir()
    for file in ("pyproject.toml", "constraints.txt"):
        (project / file).write_text("first\n")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "python3").write_text(
        '#!/bin/sh\nmkdir -p ~/venv/bin\nprintf "#!/bin/sh\\necho pip \\"\\$@\\" >> ~/notes\\n" > ~/venv/bin/pip\nchmod +x ~/venv/bin/pip\n'
    )
    (tools / "python3").chmod(0o755)
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{tools}:{os.environ['PATH']}"}
    counts = []
    for change in (None, None, "pyproject.toml", "constraints.txt"):
        if change:
            (project / change).write_text("second\n")
        subprocess.run(["bash", "-c", line], env=environment, check=True)
        counts.append(len((tmp_path / "notes").read_text().splitlines()))
    assert counts == [1, 1, 2, 3]
