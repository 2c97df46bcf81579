"""The batch script's own faults; tests/cluster has the run under a real Slurm."""

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "slurm.sh"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    return subprocess.run(["bash", SCRIPT, *arguments], env=inherited | environment, capture_output=True, text=True)


def test_without_a_command_it_says_what_to_give():
    done = run(SLURM_SUBMIT_DIR="/")
    assert (done.returncode, done.stdout) == (2, "")
    assert "sbatch deploy/slurm.sh -m sacro_ray.train" in done.stderr


def test_outside_slurm_it_says_so():
    done = run("-m", "sacro_ray.train", "x.toml")
    assert done.returncode != 0
    assert "start this script with sbatch" in done.stderr


def test_its_first_lines_say_how_to_use_it():
    head = SCRIPT.read_text(encoding="utf-8").split("#SBATCH --")[0]
    assert [f"#  {number}." in head for number in range(1, 6)] == [True] * 5
