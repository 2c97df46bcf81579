"""The Grafana dashboard asks for what the package shows, and for all of it."""

import json
import re
from pathlib import Path

from sacro_ray.cluster.gauges import TRAINING

BOARD = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "sacro_ray.json"
SHOWN = {f"ray_sacro_ray_{name}" for name in (*TRAINING, "sweep_trials", "sweep_best_auc", "scored_radiographs_total")}


def queried() -> set[str]:
    board = json.loads(BOARD.read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return {name for expression in expressions for name in re.findall(r"ray_\w+", expression)}


def test_it_asks_for_every_metric_and_no_other():
    assert queried() == SHOWN


def test_its_panels_do_not_overlap():
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(BOARD.read_text(encoding="utf-8"))["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
