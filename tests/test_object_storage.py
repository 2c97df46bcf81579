"""The whole path over a bucket: prepare to s3://, train from and to it, evaluate and score, connections that break, other machines."""

import atexit
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pytest
import ray
import torch
from buckets import BUCKET, BreakingProxy, bucket, environment
from cohorts import RUN_FILES

from sacro_ray import evaluate, prepare, score, train, tune
from sacro_ray.cluster.preparation import _shard_task
from sacro_ray.cluster.prepare_driver import prepare_cohorts
from sacro_ray.cluster.runtime import ray_session
from sacro_ray.cluster.training import sent_before
from sacro_ray.config import build_experiment
from sacro_ray.dataset.half_finished import start_folder
from sacro_ray.dataset.manifest import read_manifest, verify
from sacro_ray.dataset.plan import plan_cohort
from sacro_ray.dataset.replacement import reopen
from sacro_ray.dataset.working_folder import WorkingFolder
from sacro_ray.errors import UserError
from sacro_ray.learning.loop import TrainingRun
from sacro_ray.learning.place import Place
from sacro_ray.learning.run_folder import RunFolder
from sacro_ray.locations import as_given

pytestmark = [pytest.mark.ray]

SHARDS, RUNS = f"s3://{BUCKET}/shards", f"s3://{BUCKET}/runs"
SHORT = "training.stages=[{size_px=32, batch_size=8, frozen_epochs=0, unfrozen_epochs=2}]"
ONE_EPOCH = "search.stages=[{size_px=32, batch_size=8, frozen_epochs=0, unfrozen_epochs=1}]"


@pytest.fixture(scope="module")
def there(experiment, tmp_path_factory):
    """A bucket behind a proxy that can break, a cache of its own, and one Ray whose workers know no other way."""
    cache = tmp_path_factory.mktemp("cache")
    others = ray.is_initialized()
    ray.shutdown()
    with bucket() as found:
        proxy = BreakingProxy((found.host, found.port))
        with environment(AWS_ENDPOINT_URL=proxy.endpoint, SACRO_RAY_CACHE=str(cache)), ray_session("local"):
            found.proxy = proxy
            yield found
        proxy.close()
    if others:
        # For the modules after this one, until the tests end.
        stack = ExitStack()
        stack.enter_context(ray_session("local"))
        atexit.register(stack.close)


@pytest.fixture(scope="module")
def in_bucket(experiment, there):
    """The experiment with its shards in the bucket, prepared over a connection that breaks once."""
    found = build_experiment(experiment.as_dict(), [f"prepare.shards={SHARDS}", SHORT, "training.workers=1"])
    there.proxy.break_next(1, after=20_000)
    assert prepare_cohorts(found) == SHARDS
    assert there.proxy.broken == 1
    return found


@pytest.fixture(scope="module")
def config(in_bucket, tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.toml"
    path.write_text(in_bucket.as_toml())
    return str(path)


@pytest.fixture(scope="module")
def trained(config, there):
    there.proxy.break_next(1, after=200_000)
    assert train.main([config, "--runs", RUNS]) == f"{RUNS}/small"
    assert there.proxy.broken == 1
    return f"{RUNS}/small"


def test_shards_in_a_bucket_are_those_on_a_disk(experiment, in_bucket, there):
    root = Path(experiment.prepare.shards)
    wanted = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    found = there.objects("shards/")
    settings = {name: json.loads(data) for name, data in found.items() if name.endswith("manifest.json")}
    assert settings == {name: json.loads(wanted[name]) for name in settings}
    assert {name: data for name, data in found.items() if name.endswith((".tar", "index.csv"))} == {
        name: data for name, data in wanted.items() if name.endswith((".tar", "index.csv"))
    }
    assert {f"{cohort}/near_duplicates.csv" for cohort in ("ours", "theirs")} <= found.keys()
    assert {"ours/contact_train.png", "ours/contact_validation.png", "theirs/contact_test.png"} <= found.keys()
    assert not [name for name in found if "/." in name], "no working note is left"


def test_a_complete_cohort_is_verified_and_left_alone(in_bucket, config, there, capsys, caplog):
    before = there.objects("shards/")
    caplog.set_level("INFO", logger="sacro_ray")
    assert prepare.main([config]) == SHARDS
    assert "ours: complete and verified, left as it is" in caplog.text
    assert there.objects("shards/") == before
    assert prepare.main(["--verify", f"{SHARDS}/ours"]) == f"{SHARDS}/ours"


@pytest.mark.slow
def test_training_over_a_bucket_is_training_on_a_disk(in_bucket, trained, there, tmp_path):
    files = there.objects("runs/small/")
    assert files.keys() >= RUN_FILES
    assert not [name for name in files if name.startswith("ray/")], "Ray's own files go when the run ends"
    on_disk = train.main([write_config(tmp_path, in_bucket), "--runs", str(tmp_path / "runs")])
    assert same_history(files["history.csv"], (Path(on_disk) / "history.csv").read_bytes())
    assert same_weights(files["checkpoints/best.pt"], (Path(on_disk) / "checkpoints" / "best.pt").read_bytes())
    assert files["predictions/validation.csv"] == (Path(on_disk) / "predictions" / "validation.csv").read_bytes()


@pytest.mark.slow
def test_a_complete_run_is_left_alone_and_another_under_its_name_is_refused(config, trained, there):
    before = there.objects("runs/small/")
    assert train.main([config, "--runs", RUNS]) == trained
    assert there.objects("runs/small/") == before
    result = run_command("train", config, "--runs", RUNS, "--set", "training.lr=0.002")
    assert result.returncode == 2
    assert f"{RUNS}/small holds another run; it differs in training.lr (0.001 there, 0.002 now)" in result.stderr


@pytest.mark.slow
def test_evaluate_and_score_from_a_bucket(experiment, trained, there, tmp_path, caplog):
    caplog.set_level("INFO", logger="sacro_ray")
    assert evaluate.main([trained]) == f"{trained}/evaluation/report.html"
    files = there.objects("runs/small/")
    assert {"evaluation/report.html", "evaluation/metrics.json", "predictions/test.csv"} <= files.keys()
    assert json.loads(files["evaluation/metrics.json"])["validation"]["n"] == 24
    assert "validation, n = 24: AUC" in caplog.text
    scores = score.main(
        [
            "--run",
            trained,
            "--input",
            experiment.cohorts["theirs"].table,
            "--out",
            str(tmp_path / "scores"),
            "--set",
            "scoring.actors=1",
        ]
    )
    table = pd.read_csv(scores)
    assert table["status"].tolist() == ["ok"] * 16
    assert table["familiarity"].notna().all(), "the statistic of familiarity came by way of the bucket"
    assert "checkpoints/familiarity.npz" in there.objects("runs/small/")


@pytest.mark.slow
def test_scores_go_into_a_bucket_and_are_gone_on_with(experiment, trained, there, tmp_path):
    out = f"s3://{BUCKET}/scores/new"
    given = ["--run", trained, "--input", experiment.cohorts["theirs"].table, "--set", "scoring.actors=1"]
    assert score.main([*given, "--out", out]) == f"{out}/scores.csv"
    files = there.objects("scores/new/")
    assert sorted(files) == ["scores.csv", "scores.parquet", "scoring.json"]
    local = score.main([*given, "--out", str(tmp_path / "scores")])
    assert files["scores.csv"] == Path(local).read_bytes()
    assert score.main([*given, "--out", out]) == f"{out}/scores.csv"
    assert there.objects("scores/new/") == files
    with pytest.raises(UserError, match=f"{out} holds the scores of another run or input"):
        score.main(["--run", trained, "--input", experiment.cohorts["ours"].table, "--out", out])


@pytest.mark.slow
def test_a_sweep_in_a_bucket_resumes_on_another_machine(in_bucket, there, tmp_path, monkeypatch):
    small = build_experiment(in_bucket.as_dict(), ["search.trials=2", "search.keep_checkpoints=1", ONE_EPOCH])
    path = write_config(tmp_path, small)
    assert tune.main([path, "--runs", RUNS]) == f"{RUNS}/small-sweep/best.toml"
    files = there.objects("runs/small-sweep/")
    assert {"sweep.toml", "data.json", "trials.csv", "best.toml", "sweep.html", "study.db"} <= files.keys()
    for number in (0, 1):
        assert {
            f"trials/000{number}/{name}" for name in ("values.json", "trial.json", "history.csv", "config.toml")
        } <= files.keys()
    assert len([name for name in files if name.endswith("best.pt")]) == 1, "the weights of the best trial alone"
    assert not [name for name in files if name.endswith("latest.pt") or name.startswith("ray/")]

    # As if the first trial's end and the results had never been sent, on a machine that has the bucket alone.
    monkeypatch.setenv("SACRO_RAY_CACHE", str(tmp_path / "another"))
    for name in ("trials/0001/trial.json", "best.toml", "trials.csv"):
        there.delete(f"runs/small-sweep/{name}")
    assert tune.main([path, "--runs", RUNS, "--resume"]) == f"{RUNS}/small-sweep/best.toml"
    again = there.objects("runs/small-sweep/")
    assert again["trials/0000/trial.json"] == files["trials/0000/trial.json"]
    one, other = (json.loads(found["trials/0001/trial.json"]) for found in (files, again))
    assert one["values"] == other["values"]
    with pytest.raises(UserError, match=f"{RUNS}/small-sweep holds a sweep already; go on with it by --resume"):
        tune.main([path, "--runs", RUNS])
    assert train.main([f"{RUNS}/small-sweep/best.toml", "--dry-run"]).startswith("# epochs 1-2: 32 px")


class Killed(BaseException):
    """In place of a SIGKILL."""


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_on_a_machine_that_has_the_bucket_alone(in_bucket, there, tmp_path, monkeypatch):
    here = Place(torch.device("cpu"))
    undisturbed = RunFolder(tmp_path / "undisturbed")
    TrainingRun(in_bucket, undisturbed, here).fit()
    address = f"{RUNS}/killed"
    monkeypatch.setenv("SACRO_RAY_CACHE", str(tmp_path / "one"))
    folder = RunFolder.at(address)

    def killed_after_one(row: dict) -> None:
        raise Killed

    with pytest.raises(Killed):
        TrainingRun(in_bucket, folder, here).fit(on_epoch=sent_before(killed_after_one, folder, here))
    assert len(there.objects("runs/killed/")["history.csv"].splitlines()) == 2
    monkeypatch.setenv("SACRO_RAY_CACHE", str(tmp_path / "other"))
    shutil.rmtree(tmp_path / "one")
    rows = []
    other = RunFolder.at(address)
    TrainingRun(in_bucket, other, here).fit(on_epoch=sent_before(rows.append, other, here))
    assert [row["epoch"] for row in rows] == [2]
    files = there.objects("runs/killed/")
    assert same_history(files["history.csv"], (undisturbed.path / "history.csv").read_bytes())
    assert same_weights(files["checkpoints/best.pt"], (undisturbed.checkpoints / "best.pt").read_bytes())


def test_a_half_finished_preparation_goes_on_shard_by_shard(in_bucket, there):
    """As on another machine: what is finished is read back from the bucket and compared; the rest is made again, byte by byte the same."""
    whole = there.objects("shards/")
    again = build_experiment(in_bucket.as_dict(), [f"prepare.shards=s3://{BUCKET}/half"])
    plan = plan_cohort("ours", again)
    start_folder(f"s3://{BUCKET}/half/ours", plan.settings, plan.digest)
    for shard in plan.shards[:3]:
        _shard_task._function(shard, f"s3://{BUCKET}/half/ours", again.prepare, ())
    kept = there.objects("half/ours/")
    assert sorted(name for name in kept if name.endswith(".tar")) == sorted(shard.file for shard in plan.shards[:3])
    there.put(f"half/ours/{plan.shards[0].file}", b"spoilt")
    before = {name: there.changed(f"half/ours/{name}") for name in kept}
    time.sleep(1.1)  # S3 tells seconds
    prepare_cohorts(again)
    found = there.objects("half/")
    assert {name: data for name, data in found.items() if name.endswith(".tar")} == {
        name: data for name, data in whole.items() if name.endswith(".tar")
    }
    assert {shard.file: there.changed(f"half/ours/{shard.file}") == before[shard.file] for shard in plan.shards[:3]} == {
        plan.shards[0].file: False,
        plan.shards[1].file: True,
        plan.shards[2].file: True,
    }
    assert not [name for name in found if "/." in name]


def test_duplicates_are_dropped_in_a_bucket_as_on_a_disk(in_bucket, there, tmp_path):
    cohort = tmp_path / "twice"
    shutil.copytree(Path(in_bucket.cohorts["ours"].table).parent, cohort)
    (cohort / "images" / "r1001.png").write_bytes((cohort / "images" / "r1000.png").read_bytes())
    ours = {
        **in_bucket.as_dict()["cohorts"]["ours"],
        "table": str(cohort / "cohort.csv"),
        "readings": str(cohort / "readings.csv"),
    }
    data = {**in_bucket.as_dict(), "cohorts": {"ours": ours}}
    found = []
    for shards in (f"s3://{BUCKET}/twice", str(tmp_path / "shards")):
        prepare_cohorts(build_experiment(data, [f"prepare.shards={shards}", "prepare.duplicates=drop"]))
        found.append(verify(as_given(f"{shards}/ours")))
    assert found[0] == found[1]
    assert [entry.reason for entry in found[0].excluded] == ["duplicate"]
    # To be replaced, for its table has fewer rows: the manifest goes, notes of what is kept come, shards that are over go.
    lines = (cohort / "cohort.csv").read_text().splitlines()
    (cohort / "cohort.csv").write_text("\n".join(line for line in lines if not line.endswith("train") or line < "r1030") + "\n")
    experiment, address = build_experiment(data, [f"prepare.shards=s3://{BUCKET}/twice"]), f"s3://{BUCKET}/twice/ours"
    plan, before = plan_cohort("ours", experiment), there.objects("twice/ours/")
    reopen(plan, address, experiment.prepare, "has changed")
    start_folder(address, plan.settings, plan.digest, plan.files)
    after = there.objects("twice/ours/")
    unchanged = [shard.file for shard in plan.shards if shard.split == "validation"]
    assert after.keys() - before.keys() == {
        ".working/plan.json",
        *(f".working/{f.replace('/', '-')[:-4]}.json" for f in unchanged),
    }
    gone = {name for name in before if name.endswith(".tar") and name not in plan.files}
    assert gone
    assert before.keys() - after.keys() == {
        "manifest.json", "near_duplicates.csv", "contact_train.png", "contact_validation.png", *gone,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        (train, ["CONFIG", "--runs", "ftp://host/runs"], "ftp:// is not among the schemes that are read and written"),
        (train, ["CONFIG", "--runs", "s3://nowhere/runs"], "there is no bucket nowhere; make it, or correct its name"),
        (train, ["CONFIG", "--runs", "s3://AKIA:hush@radiographs/runs"], "with a key in it is refused"),
        (train, [f"{RUNS}/none/best.toml"], f"no experiment file at {RUNS}/none/best.toml"),
        (
            train,
            ["CONFIG", "--set", f"prepare.shards=s3://{BUCKET}/none", "--set", "name=new", "--runs", RUNS],
            "no prepared cohort ours",
        ),
        (prepare, ["CONFIG", "--set", "prepare.shards=s3://nowhere/shards"], "there is no bucket nowhere"),
        (prepare, ["--verify", f"{SHARDS}/nobody"], f"no prepared cohort nobody at {SHARDS}/nobody"),
        (evaluate, [f"{RUNS}/nobody"], f"{RUNS}/nobody is not a run folder"),
        (score, ["--run", f"{RUNS}/nobody", "--input", "x", "--out", "y"], f"{RUNS}/nobody is not a run folder"),
        (tune, ["CONFIG", "--runs", RUNS, "--set", "name=none", "--resume"], f"no sweep to resume at {RUNS}/none-sweep"),
    ],
)
def test_the_users_mistakes(command, arguments, says, config, there):
    with pytest.raises(UserError) as error:
        command.main([config if argument == "CONFIG" else argument for argument in arguments])
    assert says in str(error.value)
    assert "hush" not in str(error.value)


def test_a_store_that_nobody_answers_for_is_one_message_and_status_2(config):
    with environment(AWS_ENDPOINT_URL="http://127.0.0.1:9"):
        result = run_command("evaluate", f"{RUNS}/small")
    assert result.returncode == 2
    assert "could not reach s3://radiographs/runs/small" in result.stderr
    assert "AWS_ENDPOINT_URL" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_copies_that_killed_processes_left_are_removed(there):
    code = (
        "import os; from sacro_ray.dataset.working_folder import WorkingFolder; "
        f"print(WorkingFolder('{RUNS}/small').path.parent, flush=True); os.kill(os.getpid(), 9)"
    )
    left = Path(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout.strip())
    assert left.is_dir()
    with WorkingFolder(f"{RUNS}/small") as mine:
        assert not left.exists()
        assert mine.path.is_dir()
        with WorkingFolder(f"{RUNS}/small"):
            assert mine.path.is_dir(), "one that is in use stays"
    assert not mine.path.exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["prepare", "train", "tune"])
def test_killed_with_sigkill_it_goes_on_on_another_machine(command, in_bucket, there, tmp_path):
    """The whole process group dies, Ray and workers included, and nothing but the bucket is left."""
    name = f"killed-{command}"
    changed = [
        f"name={name}",
        "training.stages=[{size_px=64, batch_size=8, frozen_epochs=1, unfrozen_epochs=6}]",
        "search.trials=3",
        ONE_EPOCH,
    ]
    changed += [f"prepare.shards=s3://{BUCKET}/{name}", "prepare.samples_per_shard=4"] if command == "prepare" else []
    small = build_experiment(in_bucket.as_dict(), changed)
    arguments = [sys.executable, "-m", f"sacro_ray.{command}", write_config(tmp_path, small)]
    arguments += [] if command == "prepare" else ["--runs", RUNS]
    begun = {
        "prepare": lambda: len([n for n in there.objects(f"{name}/ours/") if n.endswith(".tar")]) >= 2,
        "train": lambda: len(there.objects(f"runs/{name}/").get("history.csv", b"").splitlines()) >= 3,
        "tune": lambda: "trials/0000/trial.json" in there.objects(f"runs/{name}-sweep/"),
    }[command]
    with environment(SACRO_RAY_CACHE=str(tmp_path / "one")):
        process = subprocess.Popen(arguments, start_new_session=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not begun():
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    shutil.rmtree(tmp_path / "one")
    with environment(SACRO_RAY_CACHE=str(tmp_path / "other")):
        again = subprocess.run(
            [*arguments, *(["--resume"] if command == "tune" else [])],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
    assert again.returncode == 0, again.stderr
    if command == "prepare":
        here = build_experiment(small.as_dict(), [f"prepare.shards={tmp_path / 'shards'}"])
        prepare_cohorts(here)
        assert read_manifest(small.prepare.shards, "ours").splits == read_manifest(here.prepare.shards, "ours").splits
        return
    if command == "tune":
        assert len(pd.read_csv(io.BytesIO(there.objects(f"runs/{name}-sweep/")["trials.csv"]))) == 3
        return
    undisturbed = Path(train.main([arguments[3], "--runs", str(tmp_path / "undisturbed")]))
    files = there.objects(f"runs/{name}/")
    assert same_history(files["history.csv"], (undisturbed / "history.csv").read_bytes())
    assert same_weights(files["checkpoints/best.pt"], (undisturbed / "checkpoints" / "best.pt").read_bytes())


def write_config(folder: Path, experiment) -> str:
    path = folder / "experiment.toml"
    path.write_text(experiment.as_toml())
    return str(path)


def same_history(one: bytes, other: bytes) -> bool:
    """But for the times."""
    tables = [pd.read_csv(io.BytesIO(data)).drop(columns=["images_per_s", "seconds"]) for data in (one, other)]
    return tables[0].equals(tables[1])


def same_weights(one: bytes, other: bytes) -> bool:
    """To the bit."""
    states = [torch.load(io.BytesIO(data), weights_only=True) for data in (one, other)]
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def run_command(name: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", f"sacro_ray.{name}", *arguments], capture_output=True, text=True, check=False)
