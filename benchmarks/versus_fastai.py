"""Training beside fastai, the published study's own stack: radiographs a second, and AUC against time, both in one run.

    pip install --constraint constraints.txt --editable '.[bench]'
    python benchmarks/versus_fastai.py experiments/knee.toml [--set KEY=VALUE ...] [--epochs 2] [--speed-only]

Same radiographs (the prepared shards), first weights, batch, augmentation, mixup and label smoothing. fastai gets the radiographs as PNG
files of the size at which the shards keep them, three equal channels, 224 px, one frozen epoch and then unfrozen ones, as its
`fine_tune` has it, in fp32; its classifier is its own. Ours computes in bf16 where the machine does (`--set training.precision=fp32`: does
not), and follows the experiment file, whose stages may begin smaller: that is part of the recipe; radiographs a second are compared at
224 px. One JSON line an epoch (seconds since the start of training, validation included; AUC), at the end one with the ratios, the
external AUCs, and the best AUC of both at the ends of fastai's epochs.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from sacro_ray.config import Experiment, Stage, load_experiment
from sacro_ray.dataset.shards import read_samples
from sacro_ray.learning.loop import TrainingRun
from sacro_ray.learning.place import Place
from sacro_ray.learning.predictions import write_predictions
from sacro_ray.learning.run_folder import RunFolder

SIZE_PX, BATCH, WORKERS, FASTAI_LR = 224, 32, 2, 2e-3


def say(**values: Any) -> None:
    """One line."""
    print(json.dumps(values), flush=True)


def as_files(experiment: Experiment, folder: Path) -> pd.DataFrame:
    """The shards' radiographs with a label as PNG files: columns path, label, split."""
    rows = []
    for cohort, settings in experiment.cohorts.items():
        for split in ("test",) if settings.role == "external_test" else ("train", "validation"):
            for sample in read_samples(experiment.prepare.shards, cohort, split):
                if sample.record["label"] is not None:
                    path = folder / f"{cohort}-{sample.key}.png"
                    Image.fromarray(sample.pixels).save(path, compress_level=1)
                    rows.append({"path": str(path), "label": int(sample.record["label"]), "split": split})
    return pd.DataFrame(rows)


def learner(table: pd.DataFrame, experiment: Experiment) -> Any:
    """A learner of fastai as the study describes its own: ResNet, mixup, label smoothing, its augmentations and head."""
    from fastai.vision import all as fa

    training, strength = experiment.training, experiment.training.augmentation
    shown = table[table["split"] != "test"].assign(is_valid=lambda t: t["split"] == "validation")
    block = fa.DataBlock(
        blocks=(fa.ImageBlock, fa.CategoryBlock),
        get_x=fa.ColReader("path"),
        get_y=fa.ColReader("label"),
        splitter=fa.ColSplitter("is_valid"),
        item_tfms=fa.Resize(SIZE_PX, method="squish"),
        batch_tfms=[
            *fa.aug_transforms(do_flip=True, max_rotate=strength.rotation_degrees, max_zoom=strength.zoom, max_lighting=strength.lighting,
                               max_warp=strength.warp, p_affine=1.0, p_lighting=1.0),
            fa.Normalize.from_stats(*fa.imagenet_stats),
        ],
    )  # fmt: skip
    loaders = block.dataloaders(shown, bs=BATCH, num_workers=WORKERS)
    made = fa.vision_learner(
        loaders,
        getattr(fa, experiment.model.architecture),
        pretrained=False,
        normalize=False,
        loss_func=fa.LabelSmoothingCrossEntropyFlat(eps=training.label_smoothing),
        cbs=fa.MixUp(max(training.mixup_alpha, 1e-6)),
        metrics=fa.RocAucBinary(),
    )
    body = getattr(fa, experiment.model.architecture)()
    body.load_state_dict(torch.load(experiment.model.weights, weights_only=True), strict=False)
    # The body of fastai's model is torchvision's without the classifier, under other names and in the same order.
    made.model[0].load_state_dict(dict(zip(made.model[0].state_dict(), list(body.state_dict().values())[:-2], strict=True)))
    return made


def train_fastai(table: pd.DataFrame, experiment: Experiment, unfrozen_epochs: int) -> dict[str, Any]:
    """One frozen epoch and some unfrozen ones, as fastai's `fine_tune` has them; answers rates, AUCs and seconds."""
    from fastai.vision import all as fa

    made = learner(table, experiment)
    rates: list[float] = []
    epochs: list[dict[str, float]] = []

    class Tell(fa.Callback):  # type: ignore[misc]
        order = 100  # after the recorder

        def before_train(self) -> None:
            self.began = time.perf_counter()

        def after_train(self) -> None:
            rates.append(len(self.dls.train_ds) / (time.perf_counter() - self.began))

        def after_epoch(self) -> None:
            auc = float(made.recorder.values[-1][-1])  # noqa: PD011 (a list)
            epochs.append({"seconds": round(time.perf_counter() - start, 1), "auc": round(auc, 4)})
            say(who="fastai", epoch=len(epochs), images_per_s=round(rates[-1], 2), **epochs[-1])

    made.add_cb(Tell())
    start = time.perf_counter()
    with made.no_bar(), made.no_logging():
        made.freeze()
        made.fit_one_cycle(1, slice(FASTAI_LR), pct_start=0.99)
        made.unfreeze()
        if unfrozen_epochs:
            made.fit_one_cycle(unfrozen_epochs, slice(FASTAI_LR / 2 / 100, FASTAI_LR / 2), pct_start=0.3, div=5.0)
        made.remove_cb(Tell)  # a prediction is an epoch to callbacks, too
        external = table[table["split"] == "test"]
        loader = made.dls.test_dl(external["path"].tolist(), bs=BATCH, num_workers=WORKERS)
        scores = made.get_preds(dl=loader)[0][:, 1].numpy()
    unfrozen = rates[-1] if unfrozen_epochs else float("nan")
    return {
        "epochs": epochs,
        "frozen": rates[0],
        "unfrozen": unfrozen,
        "external": float(roc_auc_score(external["label"], scores)),
    }


def train_ours(experiment: Experiment, folder: Path) -> dict[str, Any]:
    """The experiment file's own stages, by the same loop as `train`; answers AUCs and seconds."""
    place, epochs = Place(torch.device("cuda" if torch.cuda.is_available() else "cpu")), []
    start = time.perf_counter()

    def tell(row: dict[str, Any]) -> None:
        epochs.append({"seconds": round(time.perf_counter() - start, 1), "auc": round(row["val_auc"], 4)})
        say(
            who="ours",
            epoch=row["epoch"],
            size_px=row["size_px"],
            phase=row["phase"],
            images_per_s=row["images_per_s"],
            **epochs[-1],
        )

    run = RunFolder(folder)
    run.claim(experiment)
    TrainingRun(experiment, run, place).fit(tell)
    write_predictions(experiment, run, place, experiment.cohorts_of("external_test"), "test", run.test_predictions)
    table = pd.read_csv(run.test_predictions).dropna(subset="label")
    return {"epochs": epochs, "external": float(roc_auc_score(table["label"], table["probability"]))}


def same_size(experiment: Experiment, unfrozen_epochs: int) -> Experiment:
    """The experiment at fastai's size and batch, for radiographs a second: one frozen epoch, and one unfrozen."""
    stage = Stage(size_px=SIZE_PX, batch_size=BATCH, frozen_epochs=1, unfrozen_epochs=min(1, unfrozen_epochs))
    return experiment.model_copy(update={"training": experiment.training.model_copy(update={"stages": [stage]})})


def best_before(epochs: list[dict[str, float]], seconds: float) -> float:
    """The best validation AUC that was there at a time; chance before the first."""
    return max((epoch["auc"] for epoch in epochs if epoch["seconds"] <= seconds), default=0.5)


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--epochs", type=int, default=2, help="fastai's unfrozen epochs")
    parser.add_argument("--speed-only", action="store_true", help="leave out our own recipe's run")
    given = parser.parse_args()
    experiment = load_experiment(given.experiment, given.set)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        table = as_files(experiment, root)
        theirs = train_fastai(table, experiment, given.epochs)
        run = RunFolder(root / "same")
        TrainingRun(
            same_size(experiment, given.epochs), run, Place(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        ).fit()
        same = pd.read_csv(run.path / "history.csv").set_index("phase")["images_per_s"]
        line = {f"{phase}_ratio": round(float(same[phase]) / theirs[phase], 2) for phase in same.index}
        line |= {f"ours_{phase}_per_s": float(same[phase]) for phase in same.index}
        line |= {f"fastai_{phase}_per_s": round(theirs[phase], 2) for phase in same.index}
        line |= {"fastai_external_auc": round(theirs["external"], 4)}
        if not given.speed_only:
            ours = train_ours(experiment, root / "ours")
            times = [epoch["seconds"] for epoch in theirs["epochs"]]
            line |= {
                "ours_external_auc": round(ours["external"], 4),
                "at": [
                    {"seconds": t, "fastai": best_before(theirs["epochs"], t), "ours": best_before(ours["epochs"], t)}
                    for t in times
                ],
            }
        say(**line)


if __name__ == "__main__":
    main()
