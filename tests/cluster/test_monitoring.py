"""A training, a sweep and a scoring, watched as Prometheus would watch them: everything that the dashboard asks for is there."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

BOARD = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "sacro_ray.json"
EXPRESSIONS = [target["expr"] for panel in json.loads(BOARD.read_text())["panels"] for target in panel["targets"]]
QUERIED = {name for expression in EXPRESSIONS for name in re.findall(r"ray_\w+", expression)}

# Says where the metrics are, works when asked to, and stays until its input closes.
SCRIPT = """
import json, sys
from pathlib import Path
import ray
from sacro_ray.cluster.runtime import ray_session
from sacro_ray.cluster.score_driver import score_input
from sacro_ray.cluster.search import search
from sacro_ray.cluster.train_driver import train
from sacro_ray.config import build_experiment

base = Path(sys.argv[1])
experiment = build_experiment(json.loads((base / "experiment.json").read_text()))
with ray_session("local"):
    session = ray._private.worker.global_worker.node.get_session_dir_path()
    print(ray.nodes()[0]["MetricsExportPort"], session, flush=True)
    sys.stdin.readline()
    run = train(experiment, base / "runs")
    search(experiment, base / "runs", resume=False)
    score_input(run, base / "films", base / "scores")
    (base / "done").touch()
    sys.stdin.read()
"""


@pytest.fixture
def work(experiment, tmp_path) -> Iterator[tuple[subprocess.Popen[str], int, Path]]:
    """The process that works, its metrics port and Ray's session folder."""
    values = experiment.as_dict()
    values["name"] = "watched"
    values["search"] |= {
        "trials": 2,
        "space": {"training.lr": {"low": 1e-4, "high": 1e-2, "log": True}},
        "stages": [{"size_px": 32, "batch_size": 8, "frozen_epochs": 0, "unfrozen_epochs": 1}],
    }
    (tmp_path / "experiment.json").write_text(json.dumps(values))
    shutil.copytree(Path(experiment.cohorts["theirs"].table).parent / "images", tmp_path / "films")
    (tmp_path / "films" / "broken.png").write_bytes(b"no picture")
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=(tmp_path / "log").open("w"), text=True, env={**os.environ, "RAY_metrics_report_interval_ms": "500"},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        said = process.stdout.readline().split()
        assert len(said) == 2, (tmp_path / "log").read_text()
        yield process, int(said[0]), Path(said[1])
    finally:
        process.communicate(timeout=60)


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def finished(process: subprocess.Popen[str], base: Path, watch) -> None:
    """Call `watch` until the work is done, and some time more for the last reports."""
    deadline = time.monotonic() + 600
    while not (base / "done").exists():
        assert process.poll() is None, (base / "log").read_text()[-4000:]
        assert time.monotonic() < deadline, (base / "log").read_text()[-4000:]
        watch()
        time.sleep(0.3)
    for _ in range(20):
        watch()
        time.sleep(0.5)


def test_every_metric_of_the_dashboard_is_there_and_names_nobody(work, experiment, tmp_path):
    process, port, _ = work
    lines: set[str] = set()

    def scrape() -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lines.update(line for line in answer.read().decode().splitlines() if line.startswith("ray_sacro_ray_"))

    start(process)
    finished(process, tmp_path, scrape)
    found = {line.split("{")[0] for line in lines}
    assert found >= QUERIED
    text = "\n".join(lines)
    assert 'status="error"' in text
    assert 'state="COMPLETE"' in text
    assert float(last(lines, "ray_sacro_ray_training_epoch")) == 5
    for split in ("ours", "theirs"):
        table = Path(experiment.cohorts[split].table).read_text().splitlines()[1:]
        for row in table:
            radiograph, patient, path = row.split(",")[:3]
            assert radiograph not in text
            assert f'"{patient}"' not in text
            assert Path(path).name not in text


def last(lines: set[str], name: str) -> str:
    return max((line.split()[-1] for line in lines if line.startswith(name + "{")), key=float)


@pytest.mark.cluster
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus: make test-cluster installs it")
def test_prometheus_answers_every_query_of_the_dashboard(work, tmp_path):
    process, _, session = work
    config = session / "metrics" / "prometheus" / "prometheus.yml"
    # Ray's own file, at a shorter interval than its 10 s.
    text = re.sub(r"(scrape_interval|evaluation_interval): \d+s", r"\1: 1s", config.read_text())
    (tmp_path / "prometheus.yml").write_text(text)
    prometheus = subprocess.Popen(
        ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/series",
         "--web.listen-address=127.0.0.1:19090"],
        stdout=subprocess.DEVNULL, stderr=(tmp_path / "prometheus.log").open("w"),
    )  # fmt: skip
    answered: set[str] = set()

    def ask() -> None:
        for expression in EXPRESSIONS:
            query = urllib.parse.urlencode({"query": expression.replace("$run", ".*")})
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:19090/api/v1/query?{query}", timeout=10) as answer:
                    if json.load(answer)["data"]["result"]:
                        answered.add(expression)
            except OSError:
                assert prometheus.poll() is None, (tmp_path / "prometheus.log").read_text()

    try:
        # Prometheus looks for new machines every few seconds: it is there before the work begins.
        time.sleep(10)
        start(process)
        finished(process, tmp_path, ask)
    finally:
        prometheus.terminate()
        prometheus.wait(30)
    assert answered == set(EXPRESSIONS)
