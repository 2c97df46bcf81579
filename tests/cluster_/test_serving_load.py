"""Many at once, and requests made up by a program: no error from Ray Serve, from the decoders or from the network."""

import csv
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]
CLIENTS, SECONDS = 20, 30


def test_twenty_clients_for_half_a_minute_get_no_error(served_run, experiment, make_dicom):
    table = Path(experiment.cohorts["ours"].table)
    with table.open(newline="") as file:
        films = [(table.parent / row["path"]).read_bytes() for row in csv.DictReader(file)]
    rng = np.random.default_rng(0)
    films += [make_dicom(rng.integers(0, 4096, (400, 500)).astype(np.uint16)) for _ in range(8)]
    end = time.monotonic() + SECONDS

    def ask(client: int) -> list[tuple[int, float]]:
        found = []
        with httpx.Client(timeout=120) as session:
            for turn in range(10**6):
                if time.monotonic() > end:
                    break
                film, start = films[(client + CLIENTS * turn) % len(films)], time.perf_counter()
                response = session.post(served_run + "score", files={"file": film}, params={"overlay": turn % 4 == 0})
                found.append((response.status_code, time.perf_counter() - start))
        return found

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [answer for found in pool.map(ask, range(CLIENTS)) for answer in found]
    p50, p99 = np.percentile([seconds for _, seconds in answers], (50, 99))
    print(f"{CLIENTS} clients, {SECONDS} s: {len(answers)} radiographs, p50 {p50:.2f} s, p99 {p99:.2f} s")
    assert {status for status, _ in answers} == {200}
    assert len(answers) >= 2 * CLIENTS


def test_no_made_up_request_is_a_fault_of_the_server(served_run):
    described = schemathesis.openapi.from_url(served_run + "openapi.json")

    @given(described["/score"]["POST"].as_strategy())
    @settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def send(case):
        # Most bytes are no image, and are refused as they should be.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    send()
