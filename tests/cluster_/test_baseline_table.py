"""Columns of cohort.csv may bear any name: none of them takes the place of what the record itself says."""

import numpy as np
import pandas as pd
from cohorts import cohort_settings, prepare_here, write_cohort

from sacro_ray.cluster.final_evaluation import baseline_table
from sacro_ray.config import build_experiment
from sacro_ray.dataset.cache import CachedSplit
from sacro_ray.dataset.shards import read_samples
from sacro_ray.evaluation.predictions import check_predictions
from sacro_ray.evaluation.subgroups import subgroup_rows, table_1

TAKEN = (
    "label",
    "cohort",
    "subset",
    "readings",
    "probability",
    "place",
    "reader:a",
    "baseline",
    "radiograph_id_x",
    "n",
    "group",
)


def test_columns_named_like_the_records_own_overwrite_nothing(tmp_path):
    folder = write_cohort(tmp_path / "ours", 24, 1, ["a"], splits=True)
    table = pd.read_csv(folder / "cohort.csv", dtype=str)
    for number, name in enumerate(TAKEN):
        table[name] = [f"{name} {i % 2 + number}" for i in range(len(table))]
    table.to_csv(folder / "cohort.csv", index=False)
    experiment = build_experiment(
        {
            "name": "taken",
            "cohorts": {"ours": cohort_settings(folder, "development", ["a"])},
            "prepare": {"shards": str(tmp_path / "shards")},
        }
    )
    root = prepare_here(experiment)
    splits = [
        CachedSplit(np.zeros((0, 1, 1), np.uint8), [sample.record for sample in read_samples(root, "ours", split)])
        for split in ("train", "validation")
    ]
    records = [record for split in splits for record in split.records]
    baseline = baseline_table(splits)
    for key in ("radiograph_id", "cohort", "split", "label"):
        assert list(baseline[key]) == [record[key] for record in records]

    rows = {str(row["characteristic"]): row for row in table_1(baseline).rows}
    positives = sum(record["label"] for record in records)
    assert str(list(rows["Reference positive, n (%)"].values())[1]).startswith(f"{positives} (")
    for number, name in enumerate(TAKEN):
        shown = name[0].upper() + name[1:].replace("_", " ")
        assert f"{shown}: {name} {number}, n (%)" in rows

    predictions = check_predictions(pd.DataFrame(records).assign(probability=0.5, label=[r["label"] for r in records]), "all")
    groups = {(row["characteristic"], row["group"]): row["n"] for row in subgroup_rows(predictions, baseline, 0.5, small=1)}
    assert groups["Probability", f"probability {TAKEN.index('probability')}"] == 12
    assert groups["Label", "label 0"] == 12
