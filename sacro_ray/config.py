"""The experiment file: every setting of the product, typed, bounded and validated in one place.

`load_experiment` reads `experiments/NAME.toml`, applies `--set section.key=value` overrides and answers a frozen `Experiment`.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from sacro_ray.errors import UserError
from sacro_ray.locations import checked_location
from sacro_ray.settings import Section, build_settings, written_as

Name = Annotated[
    str,
    *written_as(
        r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}",
        "are letters without accents, digits, _ and -, at most 64, the first a letter or digit",
    ),
]
Rule = Annotated[
    str,
    *written_as(
        r"modified_new_york|definite|grade_at_least:[1-4]",
        "are modified_new_york, definite, and grade_at_least:N with N from 1 to 4",
    ),
]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]


class Cohort(Section):
    """One cohort: its two tables, its part in the study, and how its readings become a reference label."""

    table: str
    readings: str
    role: Literal["development", "external_test"]
    rule: Rule
    consensus: Literal["adjudicated", "agreement"]
    readers: list[Name] = Field(min_length=1)

    @model_validator(mode="after")
    def _readers_are_distinct(self) -> Self:
        if len(set(self.readers)) != len(self.readers):
            raise ValueError("a reader is named twice in readers; name each reader once, in the order in which they read")
        if "model" in self.readers:
            raise ValueError("a reader is named model, as the network is in all tables; give the reader another name")
        if self.consensus == "adjudicated" and len(self.readers) > 3:
            raise ValueError("consensus adjudicated takes at most three readers: the first two, and the one who decides")
        return self


class Prepare(Section):
    """From files to shards. The published study adjusted grey levels by eye and cropped by hand; here both are settings."""

    shards: Annotated[str, AfterValidator(checked_location)] = "shards"
    store_size: int = Field(default=1024, ge=32, le=8192, description="longest side of a stored image, pixels")
    validation_fraction: float = Field(default=0.15, gt=0.0, lt=1.0)
    split_seed: Seed | None = Field(
        default=None,
        description="decides training and validation; default: the split that was prepared is kept, a first one has seed",
    )
    greyscale: Literal["dicom", "percentile", "clahe"] = "dicom"
    window: int = Field(default=0, ge=0, description="which of several windows or VOI LUTs of a DICOM header, from 0")
    crop: Literal["none", "table", "collimation"] = "table"
    modalities: list[str] = Field(default=["CR", "DX", "RF", "RG"])
    max_excluded_fraction: Fraction = 0.05
    samples_per_shard: Positive = 128
    duplicates: Literal["warn", "drop"] = "warn"
    pseudonymise: bool = False


class Model(Section):
    """The network: architecture, where its first weights come from, how a radiograph fills the square input."""

    architecture: Literal["resnet18", "resnet34", "resnet50"] = "resnet50"
    weights: str = Field(default="IMAGENET1K_V2", description='"IMAGENET1K_V2", "none", or the path of a state_dict file')
    fit: Literal["pad", "stretch", "crop"] = Field(default="pad", description="how the aspect ratio meets the square input")
    hidden_units: int = Field(default=512, ge=1)
    dropout: float = Field(default=0.5, ge=0.0, lt=1.0)


class Stage(Section):
    """One resolution of progressive resizing: first the head alone, then all layers."""

    size_px: int = Field(ge=32, le=4096)
    batch_size: int = Field(ge=2)
    frozen_epochs: int = Field(ge=0)
    unfrozen_epochs: int = Field(ge=0)
    lr: Literal["auto"] | Annotated[float, Field(gt=0.0)] | None = Field(default=None, description="instead of training.lr")


class Augmentation(Section):
    """Random changes of each training image (study, Model training): flip, rotation, magnification, lighting, warp."""

    flip_probability: Fraction = 0.5
    rotation_degrees: float = Field(default=10.0, ge=0.0, le=45.0)
    zoom: float = Field(default=1.1, ge=1.0, le=2.0, description="largest magnification")
    lighting: float = Field(default=0.2, ge=0.0, lt=1.0, description="largest relative change of brightness and contrast")
    warp: float = Field(default=0.1, ge=0.0, le=0.5, description="largest perspective shift of a corner, share of the side")


DEFAULT_STAGES = [
    Stage(size_px=224, batch_size=64, frozen_epochs=2, unfrozen_epochs=10),
    Stage(size_px=512, batch_size=32, frozen_epochs=1, unfrozen_epochs=5),
]


class Training(Section):
    """The recipe of the published study, with its knobs. The batch size of a stage is the global one, over all workers."""

    workers: Positive | Literal["all"] | Annotated[list[Positive], Field(min_length=2, max_length=2)] = Field(
        default="all", description='"all": one a GPU; without a GPU one. [2, 8]: as many as there are, from 2 to 8'
    )
    synchronised_batch_norm: bool = Field(default=False, description="statistics over all workers' batches; GPUs only")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    lr: Literal["auto"] | Annotated[float, Field(gt=0.0)] = "auto"
    schedule: Literal["one_cycle", "triangular"] = "one_cycle"
    discriminative_ratio: float = Field(default=0.1, gt=0.0, le=1.0, description="rate of the first layers over the head's")
    weight_decay: float = Field(default=0.01, ge=0.0)
    mixup_alpha: float = Field(default=0.4, ge=0.0, description="0: no mixup")
    label_smoothing: float = Field(default=0.1, ge=0.0, lt=1.0)
    frozen_batch_norm_updates: bool = Field(default=False, description="True: a frozen body still moves its statistics")
    weight_averaging: float = Field(default=0.0, ge=0.0, lt=1.0, description="decay a step of averaged weights; 0: none")
    flip_at_inference: bool = Field(default=False, description="average the scores of the image and of its mirror image")
    compile: bool = False
    max_failures: int = Field(default=3, ge=0, description="restarts from the latest checkpoint after a lost worker or node")
    cache_gib: float = Field(default=8.0, gt=0.0, description="of all decoded caches of a node together, on its disk")
    augmentation: Augmentation = Augmentation()
    stages: list[Stage] = Field(default=DEFAULT_STAGES, min_length=1)

    @model_validator(mode="after")
    def _something_to_train(self) -> Self:
        if isinstance(self.workers, list) and self.workers[0] > self.workers[1]:
            raise ValueError(f"workers = {self.workers} runs from more to fewer; give [fewest, most]")
        if not any(stage.frozen_epochs + stage.unfrozen_epochs for stage in self.stages):
            raise ValueError("no stage has an epoch to train; give frozen_epochs or unfrozen_epochs above 0")
        return self


class Range(Section):
    """A numeric range of the search space."""

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    log: bool = False
    integer: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must lie below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"a log range must lie above zero, low is {self.low}")
        return self


class Choices(Section):
    """A categorical dimension of the search space."""

    choices: list[str | int | float | bool] = Field(min_length=1)


def _kind_of_dimension(value: object) -> str:
    is_choice = "choices" in value if isinstance(value, Mapping) else isinstance(value, Choices)
    return "a choice" if is_choice else "a range"


Dimension = Annotated[Annotated[Range, Tag("a range")] | Annotated[Choices, Tag("a choice")], Discriminator(_kind_of_dimension)]
DEFAULT_SPACE: dict[str, Range | Choices] = {
    "training.lr": Range(low=1e-4, high=1e-2, log=True),
    "training.mixup_alpha": Range(low=0.0, high=0.8),
    "training.label_smoothing": Range(low=0.0, high=0.2),
}


class Search(Section):
    """The sweep: how many trials, over which settings, with how much of the cluster each, stopped how early."""

    trials: Positive = 20
    space: dict[str, Dimension] = Field(default=DEFAULT_SPACE, min_length=1)
    stages: list[Stage] | None = Field(
        default=None, min_length=1, description="of a trial, instead of training.stages: shorter, smaller"
    )
    early_stopping: bool = True
    reduction_factor: float = Field(default=3.0, gt=1.0)
    workers_per_trial: Positive = 1
    gpus_per_trial: float | None = Field(default=None, ge=0.0, description="default: one a worker where the cluster has any")
    cpus_per_trial: float | None = Field(default=None, gt=0.0, description="default: all CPUs of a machine without GPUs")
    keep_checkpoints: Positive = 3


class Evaluation(Section):
    """Cut-offs, intervals and their seeds."""

    bootstrap_repetitions: int = Field(default=1000, ge=1)
    target_sensitivity: float = Field(default=0.95, gt=0.0, le=1.0)
    target_specificity: float = Field(default=0.95, gt=0.0, le=1.0)
    cutoff_folds: int = Field(default=5, ge=2)
    cutoff_repeats: Positive = 20
    small_subgroup: Positive = Field(default=20, description="subgroups with fewer radiographs are marked")
    robustness_radiographs: int = Field(
        default=400, ge=0, description="as many test images, drawn at random, are changed slightly and scored again; 0: none"
    )


class Scoring(Section):
    """New cohorts in batches."""

    batch_size: Positive = 32
    actors: Positive | Literal["auto"] = "auto"
    gpus_per_actor: float = Field(
        default=1.0, gt=0.0, description="a worker's GPUs where the cluster has any; below 1 they share"
    )


class Experiment(Section):
    """A whole experiment file."""

    name: Name
    seed: Seed = 0
    cohorts: dict[Name, Cohort] = Field(min_length=1)
    prepare: Prepare = Prepare()
    model: Model = Model()
    training: Training = Training()
    search: Search = Search()
    evaluation: Evaluation = Evaluation()
    scoring: Scoring = Scoring()

    @model_validator(mode="after")
    def _has_development_cohort(self) -> Self:
        if not self.cohorts_of("development"):
            raise ValueError('no cohort has role = "development"; name one to train and validate on')
        return self

    def cohorts_of(self, role: Literal["development", "external_test"]) -> list[str]:
        """Names of the cohorts with this role, in the order of the file."""
        return [name for name, cohort in self.cohorts.items() if cohort.role == role]

    def of_a_trial(self) -> Self:
        """The experiment as a trial of the sweep runs it: with the stages of [search] where there are any."""
        if self.search.stages is None:
            return self
        return self.model_copy(update={"training": self.training.model_copy(update={"stages": self.search.stages})})

    def as_dict(self) -> dict[str, Any]:
        """The resolved settings as plain values, without those that are None (TOML has no null)."""
        return self.model_dump(mode="json", exclude_none=True)

    def as_toml(self) -> str:
        """The resolved settings as an experiment file: loading it gives an equal `Experiment`."""
        return tomli_w.dumps(self.as_dict())


class EvaluationOnly(Section):
    """What `evaluate` takes where it is given predictions and no run."""

    seed: Seed = 0
    evaluation: Evaluation = Evaluation()


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment file and apply overrides of the form `section.key=value`.

    Raises:
        UserError: The file is missing or not TOML, an override has no `=`, or a setting is unknown, of a wrong type or out of range.
    """
    try:
        content = Path(path).read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"no experiment file at {path}; give the path of a .toml file such as experiments/demo.toml") from None
    return parse_experiment(content, overrides, source=str(path))


def parse_experiment(content: bytes, overrides: Sequence[str], source: str) -> Experiment:
    """The content of an experiment file from wherever, with overrides; the same errors as `load_experiment`."""
    try:
        data = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{source} is not a TOML file: {error}") from None
    return build_experiment(data, overrides, source)


def build_experiment(data: Mapping[str, Any], overrides: Sequence[str] = (), source: str = "the configuration") -> Experiment:
    """Validate plain values as an `Experiment`; the same errors as `load_experiment`."""
    return build_settings(Experiment, data, overrides, source)
