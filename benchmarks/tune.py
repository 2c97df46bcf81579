"""Sweeps against a bare Optuna loop, and what early stopping saves.

    python benchmarks/tune.py [--trials 6] [--patients 160] [--asha-trials 12] [--parts decodes overhead stopping]

Draws simulated cohorts, prepares them, and prints one line a measurement:
- wall-clock of the same trials, one at a time: `tune` in a process of its own (with the start of Ray, and without) and a loop over
  Optuna's ask and tell that trains in one process; their ratio, and the seconds of overhead a trial;
- how often each radiograph was decoded at each size in a whole sweep, counted where files are decoded, in all processes;
- epochs run with early stopping and without, and the best AUC of both.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import optuna
import ray
import torch

from sacro_ray.cluster.runtime import ray_session
from sacro_ray.cluster.search import search
from sacro_ray.cluster.space import distributions, with_values
from sacro_ray.cluster.sweep_folder import SweepFolder
from sacro_ray.config import Experiment, load_experiment
from sacro_ray.learning.loop import TrainingRun
from sacro_ray.learning.place import Place
from sacro_ray.learning.run_folder import RunFolder

DEMO = Path(__file__).parents[1] / "sacro_ray" / "simulation" / "demo.toml"
STAGES = (
    "search.stages=[{size_px=64, batch_size=16, frozen_epochs=1, unfrozen_epochs=4}, "
    "{size_px=80, batch_size=16, frozen_epochs=0, unfrozen_epochs=3}]"
)
COUNTING = '''
import os, sys
class Finder:
    """Wraps the shard reader of the cache as soon as that module is imported."""
    def find_spec(self, name, path=None, target=None):
        if name != "sacro_ray.dataset.cache":
            return None
        sys.meta_path.remove(self)
        import importlib, importlib.util
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            read = module.read_samples
            def counted(shards, cohort, split):
                for sample in read(shards, cohort, split):
                    with open(os.environ["DECODES"], "a") as log:
                        log.write(sample.record["radiograph_id"] + "\\n")
                    yield sample
            module.read_samples = counted
        spec.loader.exec_module = exec_module
        return spec
if "DECODES" in os.environ:
    sys.meta_path.insert(0, Finder())
'''


def main() -> None:
    """Measure and print."""
    given = argparse.ArgumentParser()
    given.add_argument("--trials", type=int, default=6)
    given.add_argument("--patients", type=int, default=160)
    given.add_argument("--asha-trials", type=int, default=12)
    given.add_argument("--parts", nargs="+", default=["decodes", "overhead", "stopping"])
    asked = given.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(f"python {sys.version.split()[0]}, torch {torch.__version__}, ray {ray.__version__}, optuna {optuna.__version__}, "
          f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        experiment = prepared(base, asked.patients)
        if "decodes" in asked.parts:
            decodes(base, experiment)
        if "overhead" in asked.parts:
            overhead(base, experiment, asked.trials)
        if "stopping" in asked.parts:
            early_stopping(base, experiment, asked.asha_trials)


def prepared(base: Path, patients: int) -> Experiment:
    """A simulated cohort, prepared, in an experiment whose trials take some seconds."""
    os.chdir(base)
    os.environ["SACRO_RAY_CACHE"] = str(base / "cache")
    call("simulate", "data/demo", "--patients", str(patients), "--test-patients", "20", "--size-px", "256")
    (base / "bench.toml").write_text(DEMO.read_text(encoding="utf-8"), encoding="utf-8")
    overrides = ["name=bench", STAGES]
    call("prepare", "bench.toml", *(part for o in overrides for part in ("--set", o)))
    return load_experiment("bench.toml", overrides)


def call(name: str, *arguments: str, **environment: str) -> float:
    """Run a command; answers its seconds."""
    started = time.perf_counter()
    command = [sys.executable, "-m", f"sacro_ray.{name}", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **environment})
    return time.perf_counter() - started


def decodes(base: Path, experiment: Experiment) -> None:
    """Count decodes over a whole sweep that begins without a cache; leaves the cache full."""
    (base / "site").mkdir()
    (base / "site" / "sitecustomize.py").write_text(COUNTING, encoding="utf-8")
    log = base / "decodes.log"
    path = os.pathsep.join(filter(None, [str(base / "site"), os.environ.get("PYTHONPATH", "")]))
    arguments = ["bench.toml", "--set", "name=decodes", "--set", STAGES, "--set", "search.cpus_per_trial=1.0", "--trials", "3"]
    call("tune", *arguments, PYTHONPATH=path, DECODES=str(log))
    counts = Counter(log.read_text(encoding="utf-8").split())
    sizes = len({stage.size_px for stage in experiment.search.stages or []})
    each = sorted({count / sizes for count in counts.values()})
    print(f"decodes of each of {len(counts)} radiographs at each of {sizes} sizes over 3 trials, two at once: {each}")


def overhead(base: Path, experiment: Experiment, trials: int) -> None:
    """The same trials one at a time, without early stopping: the sweep, and a bare loop with the values that the sweep tried."""
    plain = load_experiment("bench.toml", ["name=overhead", STAGES, f"search.trials={trials}", "search.early_stopping=false"])
    alone = with_values(plain.of_a_trial(), {}, name="warm")
    TrainingRun(alone, claimed(alone, base / "warm"), Place(torch.device("cpu"))).fit()
    started = time.perf_counter()
    with ray_session("local"):
        ready = time.perf_counter()
        search(plain, base / "runs", resume=False)
        swept = time.perf_counter() - ready
    whole = time.perf_counter() - started
    records = SweepFolder((base / "runs" / "overhead-sweep").resolve()).records()
    started = time.perf_counter()
    study = optuna.create_study(direction="maximize")
    for record in records:
        study.enqueue_trial(record["values"])
        trial = study.ask(distributions(plain))
        mine = with_values(plain.of_a_trial(), trial.params, name=f"bare-{trial.number}")
        run = TrainingRun(mine, claimed(mine, base / "bare" / str(trial.number)), Place(torch.device("cpu")))
        run.fit()
        study.tell(trial, run.best_auc)
        assert run.best_auc == record["best_auc"], "the loop trained something else"
    bare = time.perf_counter() - started
    print(f"{trials} trials one at a time: bare loop {bare:.1f} s; sweep {swept:.1f} s with Ray running ({swept / bare:.3f} times), "
          f"{whole:.1f} s with its start and end ({whole / bare:.3f} times)")  # fmt: skip
    print(
        f"overhead {(swept - bare) / trials:.2f} s a trial; the start and end of Ray {whole - swept:.1f} s; a trial {bare / trials:.1f} s"
    )


def claimed(experiment: Experiment, path: Path) -> RunFolder:
    """A run folder of its own."""
    folder = RunFolder(path)
    folder.claim(experiment)
    return folder


def early_stopping(base: Path, experiment: Experiment, trials: int) -> None:
    """Epochs and best AUC with ASHA and without, the same seed."""
    found = {}
    with ray_session("local"):
        for name, stop in (("with", "true"), ("without", "false")):
            changed = ["name=" + name, STAGES, f"search.trials={trials}", f"search.early_stopping={stop}"]
            search(load_experiment("bench.toml", changed), base / "runs", resume=False)
            records = SweepFolder((base / "runs" / f"{name}-sweep").resolve()).records()
            found[name] = sum(r["epochs"] for r in records), max(r["best_auc"] for r in records if r["best_auc"] is not None)
    fewer = 1 - found["with"][0] / found["without"][0]
    print(f"{trials} trials: {found['with'][0]} epochs with early stopping, {found['without'][0]} without ({fewer:.0%} fewer); "
          f"best AUC {found['with'][1]:.4f} with, {found['without'][1]:.4f} without")  # fmt: skip


if __name__ == "__main__":
    main()
