"""The plan of a cohort: who is where, and what decides it."""

import logging

import pytest
from cohorts import cohort_settings, prepare_here, write_cohort

from sacro_ray.config import build_experiment
from sacro_ray.dataset.check import plan_experiment
from sacro_ray.dataset.completion import prepared_seed, unchanged
from sacro_ray.dataset.plan import plan_cohort
from sacro_ray.errors import UserError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The settings of an experiment whose one cohort was prepared with seed 0."""
    base = tmp_path_factory.mktemp("plan")
    settings = {
        "name": "plan",
        "cohorts": {"ours": cohort_settings(write_cohort(base / "ours", 48, 1, ["a"]), "development", ["a"])},
        "prepare": {"shards": str(base / "shards"), "samples_per_shard": 8},
    }
    prepare_here(build_experiment(settings))
    return settings


def planned(settings, *overrides):
    """The plan as `prepare` makes it, and the cohort's folder."""
    experiment = build_experiment(settings, list(overrides))
    folder = f"{experiment.prepare.shards}/ours"
    return plan_cohort("ours", experiment, prepared_seed(folder)), folder


@pytest.mark.parametrize("overrides", [["seed=7"], ["seed=7", "prepare.split_seed=0"], ["prepare.split_seed=0"], []])
def test_another_training_seed_moves_no_patient_and_is_not_refused(prepared, overrides):
    plan, folder = planned(prepared, *overrides)
    first = plan_cohort("ours", build_experiment(prepared))
    assert plan.settings == first.settings
    assert "split_seed" not in plan.settings, "what was prepared before there was a split_seed is recognised"
    assert plan == first
    assert unchanged(plan, folder)


def test_the_kept_split_is_said(prepared, caplog):
    caplog.set_level(logging.INFO)
    planned(prepared, "seed=7")
    assert "seed = 7, and the split of seed 0, with which it was prepared, is kept" in caplog.text


@pytest.mark.parametrize(
    ("grades", "said"),
    [
        ([0] * 12, "train has 0 positive and 9 negative radiographs: training, AUC and cut-offs need both"),
        ([4] * 12, "validation has 3 positive and 0 negative radiographs: training, AUC and cut-offs need both"),
        ([0, 4, 0] * 4, "validation has 1 positive and 2 negative radiographs: with fewer than 5 of either, AUC and"),
    ],
)
def test_one_class_and_few_radiographs_are_said_before_anything_is_prepared(tmp_path, grades, said, caplog):
    folder = write_cohort(tmp_path / "ours", 12, 1, ["a"])
    names = [f"r1{i:03d}" for i in range(12)]
    lines = [f"{name},a,{grade}" for name, grade in zip(names, grades, strict=True)]
    (folder / "readings.csv").write_text("radiograph_id,reader,grade\n" + "\n".join(lines) + "\n")
    rows = [f"{name},{name},images/{name}.png,{'train' if i % 4 else 'validation'}" for i, name in enumerate(names)]
    (folder / "cohort.csv").write_text("radiograph_id,patient_id,path,split\n" + "\n".join(rows) + "\n")
    settings = {"name": "few", "cohorts": {"ours": cohort_settings(folder, "development", ["a"])}}
    plan_experiment(build_experiment(settings, [f"prepare.shards={tmp_path}/shards"]))
    assert said in caplog.text


def test_a_cohort_of_usual_size_is_no_remark(tmp_path, caplog):
    settings = {
        "name": "many",
        "cohorts": {"ours": cohort_settings(write_cohort(tmp_path / "o", 96, 1, ["a"], True), "development", ["a"])},
    }
    plan_experiment(build_experiment(settings, [f"prepare.shards={tmp_path}/shards"]))
    assert not caplog.text


def test_another_split_seed_is_another_split_and_is_refused(prepared):
    plan, folder = planned(prepared, "prepare.split_seed=1")
    assert plan.digest != plan_cohort("ours", build_experiment(prepared)).digest
    assert plan == plan_cohort("ours", build_experiment(prepared, ["seed=1"])), "a first split has the experiment's seed"
    with pytest.raises(UserError, match=r"split_seed = 1, then 0"):
        unchanged(plan, folder)


def test_a_run_without_a_split_seed_has_the_configuration_it_always_had(prepared):
    assert "split_seed" not in build_experiment(prepared).as_dict()["prepare"]
