import re
import tomllib
from pathlib import Path

import pytest

from sacro_ray.config import Experiment, build_experiment, load_experiment
from sacro_ray.errors import UserError
from sacro_ray.settings import known_keys, with_setting

COHORT = {
    "table": "cohort.csv", "readings": "readings.csv", "role": "development",
    "rule": "modified_new_york", "consensus": "adjudicated", "readers": ["local"],
}  # fmt: skip
BASE = {"name": "small", "cohorts": {"a": COHORT}}
EXPERIMENTS = sorted((Path(__file__).parents[1] / "experiments").glob("*.toml"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_loads_and_its_resolved_form_is_the_same_experiment(path):
    experiment = load_experiment(path)
    assert experiment.name == path.stem
    assert build_experiment(tomllib.loads(experiment.as_toml())) == experiment


def test_the_published_recipe_stands_in_paper_toml():
    paper = load_experiment(Path(__file__).parents[1] / "experiments" / "paper.toml")
    assert [(s.size_px, s.batch_size, s.frozen_epochs, s.unfrozen_epochs) for s in paper.training.stages] == [
        (224, 64, 100, 100), (512, 32, 100, 100), (768, 84, 100, 100),
    ]  # fmt: skip
    assert (paper.training.augmentation.rotation_degrees, paper.training.augmentation.zoom) == (10.0, 1.1)
    assert paper.training.lr == "auto"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("training.mixup_alfa=0.2", "unknown key training.mixup_alfa; the nearest known key is training.mixup_alpha"),
        ("model.mixup_alpha=0.2", "unknown key model.mixup_alpha; the nearest known key is training.mixup_alpha"),
        ("training.label_smoothing=1.5", "training.label_smoothing = 1.5: Input should be less than 1"),
        ("training.lr=fast", "training.lr = 'fast': Input should be 'auto'"),
        ("seed=one", "seed = 'one': Input should be a valid integer"),
        ("cohorts.a.rule=grade_at_least:7", "cohorts.a.rule = 'grade_at_least:7'"),
        ("cohorts.a.role=external_test", 'no cohort has role = "development"'),
        ("training.stages.0.size_px=8", "training.stages.0.size_px = 8: Input should be greater than or equal to 32"),
        ("training.stages.7.size_px=64", "write stages.NUMBER.key"),
        ("search.space.training.lr={low=1.0, high=0.1}", "low (1.0) must lie below high (0.1)"),
        ("search.space.training.lr={low=0.0, high=0.1, log=true}", "a log range must lie above zero"),
        ("search.trials=0", "search.trials = 0: Input should be greater than or equal to 1"),
        ("training.lr", "expected section.key=value"),
        ("name.x=1", "name is a single value, not a table"),
        ("name=a b", "name = 'a b': allowed are letters without accents, digits, _ and -, at most 64"),
        ("cohorts.b c={}", "cohorts.NAME = 'b c': allowed are letters"),
        ("cohorts.a.readers=['first reader']", "cohorts.a.readers.0 = 'first reader': allowed are letters"),
        ("cohorts.a.readers=['model']", "a reader is named model"),
        ("cohorts.a.rule=mny", "cohorts.a.rule = 'mny': allowed are modified_new_york, definite, and grade_at_least:N"),
        ("training.lr=-1", "training.lr = -1: Input should be 'auto' or greater than 0"),
        ("training.workers=[1]", "'all' or a list or table of at least 2, and has 1"),
        ("seed=9223372036854775808", "seed = 9223372036854775808: Input should be less than"),
        ("prepare.split_seed=-1", "prepare.split_seed = -1: Input should be greater than or equal to 0"),
    ],
)
def test_wrong_settings_name_key_value_and_what_is_allowed(override, says):
    data = with_setting(with_setting(BASE, "training.stages", [STAGE]), "search.space", {})
    with pytest.raises(UserError) as error:
        build_experiment({**data, "search": {}}, [override])
    assert says in str(error.value)


@pytest.mark.parametrize("value", ["a b", "", -1, 10**30, 2.5, [], {}, True])
def test_no_message_about_any_setting_speaks_of_patterns_or_of_python(value):
    for key in known_keys(Experiment):
        place = key.replace("cohorts.*", "cohorts.a").replace("stages.*", "stages.0").replace("space.*", "space.training.lr")
        data = with_setting(BASE, "training.stages", [STAGE])
        data = with_setting(data, "search.stages", [STAGE])
        try:
            build_experiment(with_setting(data, place, value))
        except UserError as error:
            said = str(error)
            assert not re.search(r"\^|\[A-Z|\[a-z]|instance of|validation,|constrained|\[key\]|function-|dictionary", said), (
                said
            )


STAGE = {"size_px": 64, "batch_size": 8, "frozen_epochs": 0, "unfrozen_epochs": 1}


def test_missing_keys_are_named():
    with pytest.raises(UserError, match="the key name is missing"):
        build_experiment({"cohorts": {"a": COHORT}})


@pytest.mark.parametrize(("text", "says"), [("name = ", "is not a TOML file"), (None, "no experiment file at")])
def test_a_file_that_is_none(tmp_path, text, says):
    path = tmp_path / "x.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=says):
        load_experiment(path)


def test_overrides_are_read_as_toml_and_bare_words_as_strings():
    experiment = build_experiment(
        BASE,
        [
            "training.lr=0.01",
            "model.weights=none",
            "training.stages=[{size_px=64, batch_size=4, frozen_epochs=1, unfrozen_epochs=0}]",
        ],
    )
    assert experiment.training.lr == 0.01
    assert experiment.model.weights == "none"
    assert experiment.training.stages[0].size_px == 64


def test_every_key_of_the_contract_is_known():
    promised = {
        "name", "seed", "cohorts.*.table", "cohorts.*.readings", "cohorts.*.role", "cohorts.*.rule", "cohorts.*.consensus",
        "cohorts.*.readers", "prepare.shards", "prepare.store_size", "prepare.validation_fraction", "prepare.greyscale",
        "prepare.crop", "model.architecture", "model.weights", "training.workers", "training.precision", "training.mixup_alpha",
        "training.label_smoothing", "training.lr", "training.stages.*.size_px", "training.stages.*.batch_size",
        "training.stages.*.frozen_epochs", "training.stages.*.unfrozen_epochs", "search.trials", "search.space",
        "evaluation.bootstrap_repetitions", "evaluation.target_sensitivity", "evaluation.target_specificity",
    }  # fmt: skip
    assert promised <= set(known_keys(Experiment))
