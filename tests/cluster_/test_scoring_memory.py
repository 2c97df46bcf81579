"""Ten times the files take no more memory."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sacro_ray.learning.run_folder import RunFolder

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]

# For the list of the files and for chance. If each film left its pixels or its bytes behind, 4,500 more would be 700 MiB.
ALLOWED_GROWTH_KIB = 60 * 1024
ANONYMOUS = "RssAnon:"


def anonymous_kib(process: Path) -> int:
    """Memory of a process of its own, KiB, without the object store it shares."""
    try:
        lines = (process / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(ANONYMOUS)), 0)


def peaks(run: RunFolder, films: Path, out: Path) -> tuple[int, int]:
    """Peak memory of the command and of its largest worker, KiB, while `score` runs."""
    driver = worker = 0
    command = [sys.executable, "-m", "sacro_ray.score", "--run", str(run.path), "--input", str(films), "--out", str(out)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "SPIED_OUT": str(out)}
    ) as process:
        while process.poll() is None:
            driver = max(driver, anonymous_kib(Path(f"/proc/{process.pid}")))
            for other in Path("/proc").glob("[0-9]*"):
                try:
                    ours = (
                        b"MapWorker" in (other / "cmdline").read_bytes()
                        and str(out).encode() in (other / "environ").read_bytes()
                    )
                except OSError:
                    continue
                if ours:
                    worker = max(worker, anonymous_kib(other))
            time.sleep(0.5)
    assert process.returncode == 0
    return driver, worker


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_ten_times_the_files_take_no_more_memory(tmp_path, random_run):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (400, 400), dtype=np.uint8)).save(tmp_path / "film.png")
    found = []
    for count in (500, 5000):
        films = tmp_path / str(count)
        films.mkdir()
        for i in range(count):
            os.link(tmp_path / "film.png", films / f"{i:05d}.png")
        found.append(peaks(random_run, films, tmp_path / f"scores{count}"))
    (driver_few, worker_few), (driver_many, worker_many) = found
    print(f"driver {driver_few} -> {driver_many} KiB, worker {worker_few} -> {worker_many} KiB")
    assert min(worker_few, driver_few) > 0
    assert driver_many - driver_few < ALLOWED_GROWTH_KIB
    assert worker_many - worker_few < ALLOWED_GROWTH_KIB
