"""The parts of a sweep that need no Ray: resources, the study, the rungs, the page, the table."""

import json
import re
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from html.parser import HTMLParser
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from rich.console import Console

from sacro_ray.cluster import sweep_keeper, sweep_study
from sacro_ray.cluster.space import distributions, with_values
from sacro_ray.cluster.sweep_display import Display, LiveTable, display
from sacro_ray.cluster.sweep_figures import importances
from sacro_ray.cluster.sweep_folder import SweepFolder
from sacro_ray.cluster.sweep_keeper import TrialKeeper
from sacro_ray.cluster.sweep_page import render_page
from sacro_ray.cluster.sweep_resources import fit_trials
from sacro_ray.cluster.sweep_results import Results
from sacro_ray.cluster.sweep_rungs import rungs, scheduler
from sacro_ray.cluster.sweep_study import SweepStudy, write_database
from sacro_ray.cluster.trial import attempt, run_trial
from sacro_ray.config import Search, build_experiment
from sacro_ray.disk import DiskError
from sacro_ray.errors import UserError
from sacro_ray.evaluation.report import banner
from sacro_ray.learning.run_folder import HISTORY_COLUMNS

SPACE = [
    "search.space.training.lr={low=1e-4, high=1e-2, log=true}",
    "search.space.training.mixup_alpha={low=0.0, high=0.8}",
    'search.space.model.architecture={choices=["resnet18", "resnet34"]}',
]
TWO_PHASES = "search.stages=[{size_px=32, batch_size=8, frozen_epochs=1, unfrozen_epochs=3}]"


@pytest.fixture(scope="module")
def searched():
    """An experiment whose cohort need not exist."""
    cohort = {
        "table": "c.csv",
        "readings": "r.csv",
        "role": "development",
        "rule": "definite",
        "consensus": "agreement",
        "readers": ["a"],
    }
    data = {"name": "searched", "cohorts": {"ours": cohort}, "training": {"lr": 0.001}}
    return build_experiment(data, [*SPACE, TWO_PHASES, "search.trials=30"])


def record_of(number, values):
    """How a trial with these values would end: an AUC that depends on the learning rate most, every fifth stopped, every 13th failed."""
    top = 0.9 - 1e5 * (values["training.lr"] - 0.003) ** 2 / 10 - 0.02 * values["training.mixup_alpha"]
    state = "FAIL" if number % 13 == 12 else "PRUNED" if number % 5 == 4 else "COMPLETE"
    aucs = [top - 0.1, top - 0.2, top, top - 0.05][: 1 if state == "PRUNED" else 4]
    return {
        "number": number, "state": state, "values": values, "best_auc": None if state == "FAIL" else max(aucs),
        "epoch": None if state == "FAIL" else aucs.index(max(aucs)) + 1, "epochs": len(aucs), "seconds": 2.5, "aucs": aucs,
        "error": "DivergedError: the loss is <not> finite" if state == "FAIL" else None,
    }  # fmt: skip


def sweep(experiment, folder, trials):
    study = SweepStudy(experiment, folder)
    while len(folder.records()) < trials:
        number, values = study.ask()
        record = record_of(number, values)
        folder.keep(record)
        study.tell(record)
    return folder.records()


def test_a_study_made_anew_after_every_trial_proposes_what_an_undisturbed_one_does(searched, tmp_path):
    undisturbed = sweep(searched, SweepFolder(tmp_path / "undisturbed"), 30)
    folder, killed = SweepFolder(tmp_path / "killed"), []
    while len(folder.records()) < 30:
        study = SweepStudy(searched, folder)
        number, values = study.ask()
        if number % 3 == 1 and number not in killed:
            killed.append(number)  # dead before the trial ends: its values are on the disk
            continue
        folder.keep(record_of(number, values))
        if number % 3 == 2:
            continue  # dead before the study hears of it
        study.tell(record_of(number, values))
    assert folder.records() == undisturbed
    assert len(killed) == 10
    assert [r["number"] for r in undisturbed] == list(range(30))
    assert len({r["values"]["training.lr"] for r in undisturbed}) == 30
    # It searches: the later half lies nearer to the best rate than the earlier.
    away = [abs(r["values"]["training.lr"] - 0.003) for r in undisturbed]
    assert sum(away[15:]) < sum(away[:15])


def test_the_experiments_own_values_come_first_and_another_seed_searches_elsewhere(searched, tmp_path):
    first = sweep(searched, SweepFolder(tmp_path / "a"), 3)
    other = sweep(searched.model_copy(update={"seed": 1}), SweepFolder(tmp_path / "b"), 3)
    own = {"training.lr": 0.001, "training.mixup_alpha": 0.4, "model.architecture": "resnet50"}
    inside = {name: value for name, value in own.items() if name != "model.architecture"}
    assert {name: first[0]["values"][name] for name in inside} == inside
    assert first[1]["values"] != other[1]["values"]


def test_several_trials_that_were_running_all_come_back_once(searched, tmp_path):
    folder = SweepFolder(tmp_path / "s")
    study = SweepStudy(searched, folder)
    asked = [study.ask() for _ in range(3)]
    folder.keep(record_of(*asked[1]))
    again = SweepStudy(searched, folder)
    assert [again.ask() for _ in range(2)] == [asked[0], asked[2]]
    assert again.ask()[0] == 3


def test_a_trial_folder_that_was_removed_is_the_users_error(searched, tmp_path):
    folder = SweepFolder(tmp_path / "s")
    sweep(searched, folder, 3)
    (folder.trial(1) / "values.json").unlink()
    with pytest.raises(UserError, match="0001 is missing, and later trials build on it"):
        SweepStudy(searched, folder)


def test_a_folder_takes_one_process_at_a_time(tmp_path):
    first, second = SweepFolder(tmp_path / "s"), SweepFolder(tmp_path / "s")
    with first.alone(), pytest.raises(UserError, match="another `tune` is at work"), second.alone():
        pass
    with second.alone():
        pass


class Trial:
    def __init__(self, trial_id):
        self.trial_id = trial_id


def test_the_rungs_know_the_trials_of_an_earlier_start(searched):
    """ASHA by hand, reduction factor 3: with five trials seen at the first phase's end, only their upper third goes on."""
    records = [
        {**record_of(n, {"training.lr": 0.003, "training.mixup_alpha": 0.0}), "aucs": [0.5 + n / 10] * 4} for n in range(5)
    ]
    for seen, fate in (([], TrialScheduler.CONTINUE), (records, TrialScheduler.STOP)):
        asha = scheduler(searched, seen)
        trial = Trial("new")
        asha.on_trial_add(None, trial)
        assert asha.on_trial_result(None, trial, {"halving_time": 1.0, "best_auc": 0.7}) == fate
        # Between the ends of phases nothing is decided.
        other = Trial("other")
        asha.on_trial_add(None, other)
        assert asha.on_trial_result(None, other, {"best_auc": 0.0}) == TrialScheduler.CONTINUE
    without = build_experiment(searched.as_dict(), ["search.early_stopping=false"])
    assert type(scheduler(without, records)) is FIFOScheduler


def test_a_rung_is_the_same_phase_in_trials_with_other_numbers_of_epochs(searched):
    """A trial without frozen epochs never meets, at the end of its unfrozen ones, the others as they were after their frozen ones."""
    without = with_values(searched.of_a_trial(), {"training.stages.0.frozen_epochs": 0})
    assert rungs(searched.of_a_trial()) == {1: 1.0, 4: 3.0}
    assert rungs(without) == {3: 3.0}


def test_a_rung_lets_equals_go_on(searched):
    records = [{**record_of(n, {"training.lr": 0.003, "training.mixup_alpha": 0.0}), "aucs": [0.5] * 4} for n in range(5)]
    asha = scheduler(searched, records)
    asha.on_trial_add(None, Trial("equal"))
    assert asha.on_trial_result(None, Trial("equal"), {"halving_time": 1.0, "best_auc": 0.5}) == TrialScheduler.CONTINUE


def test_combinations_that_no_experiment_allows_are_failed_trials(searched, tmp_path):
    """Both epochs may be 0, but not at once: such a trial fails, and a resumed sweep reads it."""
    epochs = [
        f"search.space.training.stages.0.{kind}_epochs={{low=0, high=3, integer=true}}" for kind in ("frozen", "unfrozen")
    ]
    space = build_experiment(searched.as_dict(), epochs)
    folder = SweepFolder(tmp_path / "s")
    values = {"training.lr": 0.003, "training.mixup_alpha": 0.0, "model.architecture": "resnet18"}
    values |= {name: 0 for name in space.search.space if name.endswith("_epochs")}
    config = {"number": 0, "values": values}
    with pytest.raises(UserError, match="no stage has an epoch"):
        attempt(config, run_trial, space.of_a_trial().as_dict(), str(folder.trials), {})
    keeper(space, folder).on_trial_error(0, [], SimpleNamespace(config=config, error_file=None))
    (record,) = folder.records()
    assert (record["state"], record["epochs"], record["best_auc"]) == ("FAIL", 0, None)
    assert "no stage has an epoch to train" in record["error"]
    assert scheduler(space, [record]).metric == "best_auc"


def keeper(experiment, folder, results=None):
    return TrialKeeper(
        folder, experiment, SweepStudy(experiment, folder), results or Results(experiment, folder), Display(30, 4)
    )


def history(folder, number, aucs):
    lines = [f"{n},1,32,unfrozen,0.001,0.5,{auc},{max(aucs[:n])},1.0,2.0" for n, auc in enumerate(aucs, 1)]
    folder.trial(number).mkdir(parents=True, exist_ok=True)
    (folder.trial(number) / "history.csv").write_text("\n".join([",".join(HISTORY_COLUMNS), *lines]) + "\n")


def test_what_is_kept_of_a_trial_is_its_best_epoch_to_the_last_digit(searched, tmp_path):
    folder = SweepFolder(tmp_path / "s")
    values = {"training.lr": 0.003, "training.mixup_alpha": 0.0, "model.architecture": "resnet18"}
    exact = 0.8512345678901233
    history(folder, 0, [0.5, exact, 0.6, exact])
    history(folder, 1, [0.5, 0.7])
    for number in range(2):
        trial = SimpleNamespace(config={"number": number, "values": values}, error_file=None)
        keeper(searched, folder).on_trial_complete(0, [], trial)
    complete, stopped = folder.records()
    assert (complete["state"], complete["best_auc"], complete["epoch"], complete["epochs"]) == ("COMPLETE", exact, 2, 4)
    assert (stopped["state"], stopped["best_auc"], stopped["seconds"]) == ("PRUNED", 0.7, 4.0)


def test_a_full_disk_after_the_end_of_a_trial_does_not_make_it_a_failed_one(searched, tmp_path):
    class Full:
        def write(self, records):
            raise OSError(28, "No space left on device")

    folder = SweepFolder(tmp_path / "s")
    history(folder, 0, [0.5, 0.6, 0.7, 0.8])
    trial = SimpleNamespace(
        config={"number": 0, "values": {"training.lr": 0.003, "training.mixup_alpha": 0.0, "model.architecture": "resnet18"}},
        error_file=None,
    )
    mine = keeper(searched, folder, Full())
    with pytest.raises(OSError, match="No space left"):
        mine.on_trial_complete(0, [], trial)
    mine.on_trial_error(0, [], trial)  # what Ray Tune does then
    assert [(r["state"], r["best_auc"]) for r in folder.records()] == [("COMPLETE", 0.8)]


def test_a_full_disk_during_a_trial_ends_the_sweep_and_fails_no_trial(searched, tmp_path):
    def full(config, **given):
        raise DiskError("/runs: the disk is full")

    with pytest.raises(DiskError):
        attempt({"number": 0}, full, {}, str(tmp_path / "s" / "trials"), {})
    folder = SweepFolder(tmp_path / "s")
    assert folder.error_of(0) is None
    (tmp_path / "error.txt").write_text(
        "Traceback\n  File x\nsacro_ray.disk.DiskError: /runs: the disk is full. Make room there\n"
    )
    trial = SimpleNamespace(config={"number": 0, "values": {}}, error_file=str(tmp_path / "error.txt"))
    mine = keeper(searched, folder)

    def sweep():
        with mine.problems_told():
            try:
                mine.on_trial_error(0, [], trial)
            except UserError:
                raise RuntimeError("the text of a traceback") from None  # as Ray Tune does

    with pytest.raises(UserError, match=r"^/runs: the disk is full. Make room there; `tune` goes on with --resume"):
        sweep()
    assert folder.records() == []


def test_a_ray_without_machines_ends_the_sweep(searched, tmp_path, monkeypatch):
    mine = keeper(searched, SweepFolder(tmp_path / "s"))
    monkeypatch.setattr(sweep_keeper, "LOOK_S", -1.0)
    monkeypatch.setattr(sweep_keeper, "cluster_nodes", lambda: [{"CPU": 2.0}])
    mine.on_step_end(0, [])
    monkeypatch.setattr(sweep_keeper, "cluster_nodes", list)
    with pytest.raises(RuntimeError, match="go on with --resume"):
        mine.on_step_end(1, [])


def test_a_trial_that_failed_is_not_run_again_and_one_whose_process_was_lost_is(tmp_path):
    calls = []

    def fails(config, **given):
        calls.append(config["number"])
        raise ValueError("first line\n  and the second")

    def lost(config, **given):
        calls.append(config["number"])
        raise SystemExit(0)  # how Ray Tune ends a trial that it stops; a killed process notes nothing either

    trials = str(tmp_path / "trials")
    with pytest.raises(ValueError, match="first line"):
        attempt({"number": 0}, fails, {}, trials, {})
    half_written = tmp_path / "trials" / "0000" / "checkpoints" / ".latest.pt.0a1b2c3d.tmp"
    half_written.parent.mkdir()
    half_written.touch()
    attempt({"number": 0}, fails, {}, trials, {})
    assert not half_written.exists()
    assert SweepFolder(tmp_path).error_of(0) == "ValueError: first line and the second"
    for _ in range(2):
        with pytest.raises(SystemExit):
            attempt({"number": 1}, lost, {}, trials, {})
    assert calls == [0, 1, 1]
    assert SweepFolder(tmp_path).error_of(1) is None


def test_two_processes_never_train_one_trial(tmp_path):
    """The trial of a driver that was killed may go on for a moment; its successor waits for it."""
    order, trials = [], str(tmp_path / "trials")
    started, may_end = threading.Event(), threading.Event()

    def orphan(config, **given):
        started.set()
        may_end.wait(60)
        order.append("orphan")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(attempt, {"number": 0}, orphan, {}, trials, {})
        assert started.wait(60)
        second = pool.submit(attempt, {"number": 0}, lambda config, **given: order.append("successor"), {}, trials, {})
        with pytest.raises(TimeoutError):
            second.result(timeout=0.5)
        may_end.set()
        first.result(60)
        second.result(60)
    assert order == ["orphan", "successor"]


GPU_NODE = {"CPU": 16.0, "GPU": 4.0, "memory": 1e9}


@pytest.mark.parametrize(
    ("settings", "nodes", "own", "worker", "at_once"),
    [
        ({}, [{"CPU": 2.0}], {"CPU": 2.0}, {}, 1),
        ({}, [{"CPU": 4.0}, {"CPU": 2.0}, {"memory": 1.0}], {"CPU": 2.0}, {}, 3),
        ({"cpus_per_trial": 1.0}, [{"CPU": 4.0}], {"CPU": 1.0}, {}, 4),
        ({}, [GPU_NODE], {"CPU": 4.0, "GPU": 1.0}, {}, 4),
        ({"gpus_per_trial": 0.5}, [GPU_NODE], {"CPU": 2.0, "GPU": 0.5}, {}, 8),
        (
            {"gpus_per_trial": 0.6, "cpus_per_trial": 1.0},
            [GPU_NODE],
            {"CPU": 1.0, "GPU": 0.6},
            {},
            4,
        ),  # a fraction lies on one GPU
        ({"gpus_per_trial": 0.0}, [GPU_NODE], {"CPU": 16.0}, {}, 1),
        ({"workers_per_trial": 2}, [{"CPU": 2.0}], None, {"CPU": 1.0}, 1),
        ({"workers_per_trial": 2}, [GPU_NODE], None, {"CPU": 4.0, "GPU": 1.0}, 2),
        ({"workers_per_trial": 3}, [{"CPU": 4.0}, {"CPU": 4.0}], None, {"CPU": 2.0}, 1),
        ({"workers_per_trial": 8, "gpus_per_trial": 8.0}, [GPU_NODE, GPU_NODE], None, {"CPU": 4.0, "GPU": 1.0}, 1),
    ],
)
def test_as_many_trials_at_once_as_fit(settings, nodes, own, worker, at_once):
    found = fit_trials(Search(**settings), nodes)
    assert (found.worker, found.at_once) == (worker, at_once)
    # A driver with workers of its own takes no CPU and no GPU from them.
    assert found.own == own if own is not None else not {"CPU", "GPU"} & found.own.keys()


@pytest.mark.parametrize(
    ("settings", "nodes", "says"),
    [
        ({"gpus_per_trial": 1.0}, [{"CPU": 2.0}], r"asks for 1 GPUs .* this Ray has 0"),
        ({"gpus_per_trial": 9.0}, [GPU_NODE, GPU_NODE], r"asks for 9 GPUs .* this Ray has 8"),
        ({"gpus_per_trial": 5.0}, [GPU_NODE, GPU_NODE], "no room"),
        ({"cpus_per_trial": 3.0}, [{"CPU": 2.0}, {"CPU": 2.0}], "no room"),
        ({}, [], r"no machine with a CPU .* deploy/with_gpus.py"),
        ({}, [{"CPU": 0.0, "memory": 1e9}], r"no machine with a CPU .* \(1 nodes without\)"),
        ({"workers_per_trial": 3}, [{"CPU": 2.0}], r"asks for 3 CPUs \(3 workers"),
        ({"workers_per_trial": 2, "gpus_per_trial": 1.0}, [GPU_NODE], "cannot share a GPU; give a multiple of 2"),
    ],
)
def test_what_does_not_fit_is_an_error_at_once(settings, nodes, says):
    with pytest.raises(UserError, match=says):
        fit_trials(Search(**settings), nodes)


class Outside(HTMLParser):
    """Addresses that a page would load."""

    found: list[str]

    def handle_starttag(self, tag, attrs):
        self.found = [*getattr(self, "found", []), *(v for k, v in attrs if k in ("src", "href", "xlink:href", "action") and v)]


def test_the_page_holds_everything_and_asks_nobody(searched, tmp_path):
    records = sweep(searched, SweepFolder(tmp_path / "s"), 16)
    page = render_page(searched, records)
    for title in ("History", "Parallel coordinates", "Importances", "Learning curves", *searched.search.space):
        assert f"<h4>{title}</h4>" in page
    assert "16 of 30 trials have ended" in page
    best = max(r["best_auc"] for r in records if r["best_auc"] is not None)
    assert f"{best:.4f}" in page
    assert "the loss is &lt;not&gt; finite" in page
    parser = Outside()
    parser.feed(page)
    assert all(address.startswith(("#", "data:")) for address in parser.found)
    assert not re.search(r"url\((?!#)|@import", page)
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    hover = [json.loads(text.replace("&#34;", '"')) for text in re.findall(r'data-hover="([^"]*)"', page)]
    assert len(hover[0]) == sum(r["best_auc"] is not None for r in records)
    assert render_page(searched, records) == page
    assert "SIMULATED DATA" not in page


@pytest.mark.parametrize("simulated", [True, False])
def test_the_page_of_a_sweep_on_simulated_radiographs_says_so_as_the_report_does(searched, tmp_path, simulated):
    folder = SweepFolder(tmp_path / "s")
    records = sweep(searched, folder, 1)
    Results(searched, folder, simulated).write(records, last=True)
    assert (str(banner()).strip() in (folder.path / "sweep.html").read_text()) is simulated


@pytest.mark.parametrize(("auc", "said"), [(0.36, True), (0.5, False), (0.7, False)])
def test_a_sweep_whose_best_is_worse_than_chance_says_so_on_its_page(searched, tmp_path, auc, said):
    records = [{**r, "best_auc": auc} for r in sweep(searched, SweepFolder(tmp_path / "s"), 1)]
    assert ("the AUC of 0.36 is worse than chance" in render_page(searched, records)) is said


@pytest.mark.parametrize("trials", [1, 2, 5])
def test_a_page_of_few_trials_leaves_out_what_they_cannot_show(searched, tmp_path, trials):
    records = sweep(searched, SweepFolder(tmp_path / "s"), trials)
    page = render_page(searched, records)
    assert ("Parallel coordinates" in page) == (trials > 1)
    assert ("Importances" in page) == (trials > 4)
    assert "Importances" not in render_page(searched, [{**r, "best_auc": 0.5} for r in records])
    failed = [{**r, "state": "FAIL", "best_auc": None, "epoch": None, "error": "lost"} for r in records]
    assert "Why trials failed" in render_page(searched, failed)
    assert ('class="best"' in page, 'class="best"' in render_page(searched, failed)) == (True, False)
    assert "<figure" not in render_page(searched, failed)


def test_importance_finds_the_setting_that_matters(searched, tmp_path):
    records = sweep(searched, SweepFolder(tmp_path / "s"), 30)
    shares = importances([r for r in records if r["best_auc"] is not None], distributions(searched))
    assert sum(shares.values()) == pytest.approx(1.0)
    assert max(shares, key=lambda name: shares[name]) == "training.lr"
    assert shares["training.lr"] > 0.5


def test_the_database_is_what_optuna_dashboard_reads(searched, tmp_path):
    folder = SweepFolder(tmp_path / "s")
    records = sweep(searched, folder, 14)
    Results(searched, folder).write(records, last=True)
    study = optuna.load_study(study_name="searched", storage=f"sqlite:///{folder.path}/study.db")
    assert [t.params for t in study.trials] == [r["values"] for r in records]
    assert [t.state for t in study.trials] == [TrialState[r["state"]] for r in records]
    assert [t.value for t in study.trials] == [r["best_auc"] for r in records]
    assert study.trials[0].intermediate_values == pytest.approx(dict(enumerate([0.7, 0.7, 0.8, 0.8], 1)), abs=0.2)
    assert list(study.trials[0].intermediate_values.values()) == sorted(study.trials[0].intermediate_values.values())


def test_a_dashboard_that_has_the_database_open_sees_new_trials_and_running_ones(searched, tmp_path):
    folder = SweepFolder(tmp_path / "s")
    sweep(searched, folder, 3)
    write_database(searched, folder)
    with closing(sqlite3.connect(folder.path / "study.db")) as dashboard:
        states = "select number, state from trials order by number"
        assert dashboard.execute(states).fetchall() == [(n, "COMPLETE") for n in range(3)]
        study = SweepStudy(searched, folder)
        study.ask()
        number, values = study.ask()  # of two that run, the second ends first
        folder.keep(record_of(number, values))
        write_database(searched, folder)
        assert dashboard.execute(states).fetchall()[3:] == [(3, "RUNNING"), (4, "PRUNED")]
    assert not list(folder.path.glob(".study.db*"))


def test_a_program_that_holds_the_database_does_not_hold_the_sweep(searched, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sweep_study, "DATABASE_PATIENCE_S", 0.1)
    folder = SweepFolder(tmp_path / "s")
    sweep(searched, folder, 2)
    write_database(searched, folder)
    with closing(sqlite3.connect(folder.path / "study.db", isolation_level=None)) as other:
        other.execute("begin exclusive")
        write_database(searched, folder)
        other.execute("rollback")
    assert "held by another program" in caplog.text


def test_the_live_table_shows_running_trials_and_the_best(searched, tmp_path):
    console = Console(record=True, width=110)

    class Stub:
        def update(self, table):
            self.table = table

    live = Stub()
    table = LiveTable(30, 4, live, [])
    records = sweep(searched, SweepFolder(tmp_path / "s"), 12)
    for n, record in enumerate(records):
        table.began(record["number"], record["values"])
        for epoch, auc in enumerate(record["aucs"], 1):
            table.epoch(record["number"], epoch, auc, auc)
        if n < 11:
            table.ended(record, records[: n + 1])
    console.print(live.table)
    text = console.export_text()
    assert "11 of 30 trials ended (2 stopped early, 0 failed)" in text
    assert re.search(r"11 +│ running +│ +4/4", text)
    best = max(records[:11], key=lambda r: r["best_auc"])
    assert re.search(rf"{best['number']} +│ \w+ +│ +\d/4 +│ +[\d.]+ +│ +{best['best_auc']:.4f}", text)


def test_without_a_terminal_there_are_plain_lines(caplog):
    with caplog.at_level("INFO", logger="sacro_ray"), display(5, 4, []) as shown:
        assert type(shown) is Display
        shown.began(0, {"training.lr": 0.001})
        shown.ended(record_of(0, {"training.lr": 0.003, "training.mixup_alpha": 0.0}), [])
    assert "trial 0: lr = 0.001" in caplog.text
    assert "trial 0 COMPLETE: AUC 0.9000 after 4 epochs" in caplog.text
