"""`train` through Ray Train: the run folder, worker counts, kills, the user's mistakes."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path
from urllib.error import URLError

import pandas as pd
import pytest
import ray.train
import torch
import torch.distributed as dist
from cohorts import RUN_FILES, assert_same_run
from ray._private.utils import push_error_to_driver
from torchvision.models import get_model_weights

from sacro_ray import train as command
from sacro_ray.cluster.train_driver import train
from sacro_ray.cluster.training import check_shared, cpu_share, run_trainer, scaling_config
from sacro_ray.config import build_experiment
from sacro_ray.errors import UserError
from sacro_ray.learning.data import open_stage
from sacro_ray.learning.inference import area_under_roc, score_split
from sacro_ray.learning.loop import DivergedError
from sacro_ray.learning.place import Place
from sacro_ray.learning.predictions import load_best_network
from sacro_ray.learning.readiness import PUBLISHED
from sacro_ray.learning.run_folder import RunFolder

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

SHORT = "training.stages=[{size_px=32, batch_size=8, frozen_epochs=1, unfrozen_epochs=2}]"


def cut(experiment, *overrides):
    return build_experiment(experiment.as_dict(), [SHORT, *overrides])


def test_run_folder_holds_what_is_promised_and_a_second_start_leaves_it_alone(experiment, tmp_path):
    path = train(cut(experiment), tmp_path)
    assert path == tmp_path / "small"
    names = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
    assert names >= RUN_FILES
    weights = torch.load(path / "checkpoints" / "best.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    predictions = pd.read_csv(path / "predictions" / "validation.csv")
    assert {"radiograph_id", "patient_id", "cohort", "split", "subset", "probability", "label", "reader:a"} <= set(predictions)
    assert predictions["probability"].between(0, 1).all()
    assert predictions["radiograph_id"].is_unique
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file()}
    assert train(cut(experiment), tmp_path) == path
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file()} == before
    (path / "curves.png").unlink()  # as a kill leaves it between the last prediction and the picture
    train(cut(experiment), tmp_path)
    assert (path / "curves.png").exists()


def test_messages_of_ray_s_daemons_are_kept_from_the_terminal(capfd, caplog):
    with caplog.at_level(logging.DEBUG, logger="sacro_ray"):
        push_error_to_driver(ray._private.worker.global_worker, "test", "infinite retries remaining")
        deadline = time.monotonic() + 20
        while "infinite retries remaining" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    said = capfd.readouterr()
    assert "infinite retries" not in said.out + said.err


def test_another_configuration_under_the_same_name_is_refused(experiment, tmp_path):
    folder = RunFolder(tmp_path / "small")
    folder.claim(cut(experiment))
    folder.save_latest({})
    with pytest.raises(UserError, match=r"holds another run; it differs in training.lr \(0.001 there, 0.002 now\)"):
        train(cut(experiment, "training.lr=0.002"), tmp_path)


def test_a_folder_in_which_no_epoch_was_trained_is_free(experiment, tmp_path):
    """As a training leaves it that was stopped in its first epoch."""
    folder = RunFolder(tmp_path / "small")
    folder.claim(cut(experiment, "training.lr=0.003"))
    (folder.path / "range_test").mkdir()
    with folder.held(), pytest.raises(UserError, match="another `train` is at work in"):
        folder.claim(cut(experiment, "training.lr=0.002"))
    folder.claim(cut(experiment, "training.lr=0.002"))
    assert folder.experiment().training.lr == 0.002
    assert not folder.trained


@pytest.mark.slow
def test_two_workers_see_the_same_validation_set(experiment, tmp_path):
    one = train(cut(experiment, "name=one", "training.workers=1"), tmp_path)
    two = train(cut(experiment, "name=two", "training.workers=2"), tmp_path)
    ids = [sorted(pd.read_csv(path / "predictions" / "validation.csv")["radiograph_id"]) for path in (one, two)]
    assert ids[0] == ids[1]
    _, description = RunFolder(two).load_best()
    history = pd.read_csv(two / "history.csv")
    assert len(history) == 3
    assert description["auc"] == history["val_auc"].max() == auc_in_one_process(RunFolder(two))


def auc_in_one_process(folder):
    """The AUC of the best weights on the validation split, one thread, as each of two workers on two cores has."""
    network, found, size_px = load_best_network(folder, Place(torch.device("cpu")))
    split = open_stage(found, size_px).validation
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    scores = score_split(network, split.images, Place(torch.device("cpu")), "fp32", found.training.flip_at_inference)
    torch.set_num_threads(threads)
    return area_under_roc(split.labels, scores)


def test_a_loss_that_is_not_finite_ends_the_run_without_another_start(experiment, tmp_path):
    with pytest.raises(DivergedError, match=r"epoch \d is not finite; the batch held the radiographs r\d+"):
        train(cut(experiment, "training.lr=1e30"), tmp_path)
    assert not (tmp_path / "small" / "predictions").exists()


def test_an_error_of_one_rank_alone_ends_the_run_at_once_with_its_message(experiment, tmp_path):
    """Returned or raised and tried again, it would leave the first rank in its collective for half an hour, up to four times."""

    def lame_rank(config):
        first = ray.train.get_context().get_world_rank() == 0
        dist.barrier()
        if first:
            with open(config["folder"] + "/starts", "a") as starts:
                starts.write(f"{time.time()}\n")
        else:
            time.sleep(0.5)
            raise UserError("the shards are not on this machine")
        dist.barrier()

    two = ray.train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1})
    with pytest.raises(UserError, match="the shards are not on this machine"):
        run_trainer(experiment, RunFolder(tmp_path), two, lame_rank)
    (started,) = (tmp_path / "starts").read_text().split()
    assert time.time() - float(started) < 60


def test_a_rank_that_does_not_see_the_run_folder_is_the_users_error(experiment, tmp_path):
    with pytest.raises(UserError, match=r"the run folder .* is not on this machine; give --runs a folder that all machines"):
        check_shared(RunFolder(tmp_path))
    RunFolder(tmp_path).claim(experiment)
    check_shared(RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("nodes", "workers", "cpus"),
    [
        ([{"CPU": 16}], 1, 16),
        ([{"CPU": 16}], 3, 5),
        ([{"CPU": 2}] * 3, 2, 2),  # not 3, which no node has
        ([{"CPU": 2}] * 3, 6, 1),
        ([{"CPU": 1}, {"CPU": 7}], 2, 3),
        ([{"CPU": 64}, {"CPU": 4, "GPU": 1}], 1, 4),  # the first has no GPU
        ([{"CPU": 64, "GPU": 8}], 8, 8),
        ([{"CPU": 64, "GPU": 1}] * 2, 2, 8),
    ],
)
def test_a_worker_takes_no_more_cpus_than_a_node_can_give_it(nodes, workers, cpus):
    assert cpu_share(nodes, workers) == cpus


def test_more_workers_than_the_machine_has_is_the_users_error(experiment, tmp_path):
    with pytest.raises(UserError, match=r"training.workers = 999, but this Ray has 0 GPUs and \d+ CPUs"):
        train(cut(experiment, "training.workers=999"), tmp_path)
    assert not list(tmp_path.iterdir())  # the corrected command finds the folder free


def test_too_little_disk_for_the_checkpoints_is_the_users_error(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: types.SimpleNamespace(free=2**20))
    with pytest.raises(UserError, match=r"0.00 GiB free, and the checkpoints of resnet18 take up to 0.\d+ GiB; make room"):
        train(cut(experiment), tmp_path)
    assert not list(tmp_path.iterdir())


def test_synchronised_batch_norm_without_gpus_is_the_users_error(experiment, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="synchronised_batch_norm needs GPUs"):
        train(cut(experiment, "training.workers=2", "training.synchronised_batch_norm=true"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_more_workers_are_asked_for_than_find_a_cpu_beside_their_gpu(experiment, monkeypatch):
    nodes = [{"CPU": 2.0, "GPU": 4.0}, {"CPU": 16.0}]
    monkeypatch.setattr("sacro_ray.cluster.training.cluster_nodes", lambda: nodes)
    assert scaling_config(cut(experiment, "training.workers=all")).num_workers == 2
    with pytest.raises(
        UserError, match=r"workers = 4, but this Ray has 4 GPUs and 18 CPUs, and each worker needs .* give at most 2"
    ):
        scaling_config(cut(experiment, "training.workers=4"))


def test_an_elastic_range_takes_what_there_is(experiment, tmp_path):
    path = train(cut(experiment, "training.workers=[1, 2]"), tmp_path)
    assert len(pd.read_csv(path / "history.csv")) == 3
    with pytest.raises(UserError, match=r"training.workers = 998, but this Ray has"):
        train(cut(experiment, "name=many", "training.workers=[998, 999]"), tmp_path)
    with pytest.raises(UserError, match=r"runs from more to fewer"):
        cut(experiment, "training.workers=[3, 2]")


def test_weights_that_do_not_load_are_the_users_error_before_a_worker_starts(experiment, tmp_path, monkeypatch):
    runs, weights = tmp_path / "runs", tmp_path / "weights.pth"
    with pytest.raises(UserError, match="neither a file nor one of"):
        train(cut(experiment, "model.weights=nowhere.pth"), runs)
    torch.save({"conv1.weight": torch.zeros(1)}, weights)
    with pytest.raises(UserError, match=r"does not fit model\.architecture"):
        train(cut(experiment, f"model.weights={weights}"), runs)

    def unreachable(*_args: object, **_settings: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(UserError, match=r"could not be downloaded \(<urlopen error no route to host>\)"):
        train(cut(experiment, "model.weights=IMAGENET1K_V1"), runs)
    assert not runs.exists()


def test_the_names_of_weights_are_torchvision_s():
    for architecture, names in PUBLISHED.items():
        assert set(names) == set(get_model_weights(architecture).__members__)


def test_a_cohort_that_is_not_prepared_is_the_users_error(experiment, tmp_path):
    with pytest.raises(UserError, match="run prepare"):
        train(cut(experiment, f"prepare.shards={tmp_path}/none"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("kill", [os.killpg, os.kill], ids=["all", "driver"])
def test_killed_with_sigkill_and_started_again_ends_as_if_undisturbed(experiment, tmp_path, kill):
    """In the middle of an epoch, Ray and workers included; or the driver alone, whose workers train on for a moment."""
    long = build_experiment(
        experiment.as_dict(),
        ["training.stages=[{size_px=64, batch_size=8, frozen_epochs=1, unfrozen_epochs=6}]", "training.workers=1"],
    )
    undisturbed = train(long, tmp_path / "undisturbed")
    config = tmp_path / "long.toml"
    config.write_text(long.as_toml())
    arguments = [sys.executable, "-m", "sacro_ray.train", str(config), "--runs", str(tmp_path / "killed")]
    history = tmp_path / "killed" / "small" / "history.csv"
    process = subprocess.Popen(
        arguments, start_new_session=True, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (history.exists() and len(history.read_text().splitlines()) >= 3):
        assert process.poll() is None
        assert time.monotonic() < deadline, "no epoch was finished"
        time.sleep(0.05)
    kill(process.pid, signal.SIGKILL)
    process.wait()
    done = len(history.read_text().splitlines()) - 1
    assert 0 < done < 7
    subprocess.run(arguments, cwd=tmp_path, check=True, capture_output=True)
    assert_same_run(undisturbed, tmp_path / "killed" / "small")


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "twice"), [("epoch 2/", False), ("epoch 2/", True), ("starting Ray", False)])
def test_ctrl_c_ends_a_training_with_one_line_and_the_same_command_goes_on(experiment, tmp_path, moment, twice):
    config = tmp_path / "long.toml"
    stages = "[{size_px=32, batch_size=8, frozen_epochs=1, unfrozen_epochs=500}]"
    config.write_text(build_experiment(experiment.as_dict(), [f"training.stages={stages}"]).as_toml())
    process = subprocess.Popen(
        [sys.executable, "-m", "sacro_ray.train", str(config), "--runs", str(tmp_path), "--address", "local"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while moment not in (said := process.stderr.readline()):
        assert said, "the training ended too early"
    for _ in range(1 + twice):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert printed == ""
    said = [line for line in said.splitlines() if not line.startswith("epoch ")]
    assert said == [
        f"interrupted; finished epochs are kept; to go on: python -m sacro_ray.train {config} --runs {tmp_path} --address local"
    ]


def train_workers():
    """The workers of all trainings on this machine; Ray names its processes after what they run."""
    said = subprocess.run(["pgrep", "-f", "^ray::RayTrainWorker"], capture_output=True, text=True, check=False).stdout
    return {int(number) for number in said.split()}


@pytest.mark.slow
def test_a_worker_killed_with_sigkill_is_replaced_and_the_run_ends_as_if_undisturbed(experiment, tmp_path):
    """Ray Train starts the workers again from the latest checkpoint; the driver goes on."""
    long = build_experiment(
        experiment.as_dict(),
        ["training.stages=[{size_px=64, batch_size=8, frozen_epochs=1, unfrozen_epochs=6}]", "training.workers=2"],
    )
    undisturbed = train(long, tmp_path / "undisturbed")
    history = tmp_path / "killed" / "small" / "history.csv"
    killed: list[int] = []
    others = train_workers()

    def kill_one() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if history.exists() and len(history.read_text().splitlines()) >= 3:
                found = train_workers() - others
                if len(found) == 2:
                    killed.append(found.pop())
                    os.kill(killed[0], signal.SIGKILL)
                    return
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one)
    killer.start()
    path = train(long, tmp_path / "killed")
    killer.join()
    assert len(killed) == 1
    assert_same_run(undisturbed, path)


def test_dry_run_prints_configuration_and_plan(capsys):
    paper = Path(__file__).parents[1] / "experiments" / "paper.toml"
    answer = command.main([str(paper), "--dry-run"])
    assert "epochs 501-600: 768 px, batch 84, all layers, learning rate auto" in answer
    assert build_experiment(__import__("tomllib").loads(capsys.readouterr().out)).name == "paper"


def run_command(name, *arguments):
    return subprocess.run([sys.executable, "-m", f"sacro_ray.{name}", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("train", ["nowhere.toml"], "no experiment file at nowhere.toml"),
        ("tune", ["nowhere.toml"], "no experiment file at nowhere.toml"),
        ("train", [], "the following arguments are required: experiment"),
    ],
)
def test_the_users_mistakes_end_with_status_2_and_no_traceback(name, arguments, says):
    result = run_command(name, *arguments)
    assert result.returncode == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
