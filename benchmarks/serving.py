"""Latency of the page's `POST /score` under many clients at once.

    sacro-ray serve --run experiments/runs/demo            # in another terminal
    python benchmarks/serving.py --url http://127.0.0.1:8000/ --films demo/data/gespic/cohort.csv

Each client sends one radiograph after the other and waits for each answer. The first few requests, which start the decoders, stand apart
as `warm_up_s`.
"""

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np

from sacro_ray.cluster.scoring_inputs import list_items
from sacro_ray.serving.upload import CROP


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000/")
    parser.add_argument("--films", required=True, help="a folder of radiographs, or a cohort.csv, whose boxes are sent")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--overlay", action="store_true", help="ask for the overlay too, as the page does")
    arguments = parser.parse_args()
    items = list_items(arguments.films, Path("/nowhere"))[:200]
    films = [(Path(item.path).read_bytes(), dict(zip(CROP, item.box or (), strict=False))) for item in items]
    parameters = {"overlay": arguments.overlay}

    def ask(client: int, seconds: float) -> list[tuple[int, float]]:
        found: list[tuple[int, float]] = []
        end = time.perf_counter() + seconds
        with httpx.Client(timeout=150) as session:
            while not found or time.perf_counter() < end:
                film, box = films[(client + arguments.clients * len(found)) % len(films)]
                start = time.perf_counter()
                response = session.post(f"{arguments.url}score", files={"file": film}, data=box, params=parameters)
                found.append((response.status_code, time.perf_counter() - start))
        return found

    def together(seconds: float) -> tuple[list[tuple[int, float]], float]:
        start = time.perf_counter()
        with ThreadPoolExecutor(arguments.clients) as pool:
            found = [one for many in pool.map(ask, range(arguments.clients), [seconds] * arguments.clients) for one in many]
        return found, time.perf_counter() - start

    _, warm_up_s = together(0)
    answers, took_s = together(arguments.seconds)
    p50, p99 = np.percentile([seconds for _, seconds in answers], (50, 99))
    statuses = [status for status, _ in answers]
    line = {
        "clients": arguments.clients, "overlay": arguments.overlay, "radiographs": len(answers),
        "statuses": {status: statuses.count(status) for status in sorted(set(statuses))},
        "per_s": round(len(answers) / took_s, 1), "p50_s": round(p50, 2), "p99_s": round(p99, 2), "warm_up_s": round(warm_up_s, 1),
    }  # fmt: skip
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
