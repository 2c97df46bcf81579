"""On machines that are smaller than their sum: what is sized by one of them, what waits says so, and one rank that fails alone."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sacro_ray.cluster.runtime import ENVIRONMENT

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]


def test_two_small_machines(experiment, tmp_path):
    given = tmp_path / "experiment.json"
    given.write_text(json.dumps(experiment.as_dict()))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("small_nodes.py")), str(given), str(tmp_path / "runs")],
        env={**os.environ, **ENVIRONMENT, "RAY_AUTH_MODE": "disabled"}, capture_output=True, text=True, timeout=800,
    )  # fmt: skip
    said = done.stdout
    assert done.returncode == 0, said[-3000:] + done.stderr[-6000:]
    assert "waiting for a place on the cluster: 1 x (3 CPU); this Ray has 3 machines (0 CPU; 1 CPU)" in said
    assert f"waiting for a place on the cluster: 1 x ({' + '.join(['1 CPU'] * 5)})" in said
    # The rank with a cache waited for the other in a collective: for half an hour, and four times.
    refused = re.search(r"^refused after (\d+) s: (.*)$", said, re.MULTILINE)
    assert refused is not None, said[-3000:]
    assert int(refused[1]) < 120
    assert "a part of this path is a file" in refused[2]
    assert re.search(r"\(rank [01] of 2, on ", refused[2])
    # Asked for the CPUs of the whole cluster, the actor that evaluates would wait for ever.
    assert re.search(r"^report .*report\.html$", said, re.MULTILINE)
