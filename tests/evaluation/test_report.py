import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd

from sacro_ray.evaluation.context import ReportContext
from sacro_ray.evaluation.participants import flow
from sacro_ray.evaluation.subgroups import readable, subgroup_rows, table_1
from sacro_ray.evaluation.tables import shown, with_interval
from sacro_ray.evaluation.words import partitions


def test_shards_of_another_program_say_nothing_of_how_they_were_divided():
    assert partitions([{"cohort": "V", "settings": {}, "splits": {"train": {}, "validation": {}}}]) == []


class Parsed(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.anchors: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id":
                self.ids.append(str(value))
            if name in ("src", "href", "xlink:href", "data", "action", "srcset"):
                (self.anchors if str(value).startswith("#") else self.addresses).append(str(value))


def test_one_file_without_outside_addresses_and_with_whole_anchors(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    page = Parsed(text)
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    assert "url(http" not in text
    assert "@import" not in text
    assert len(page.ids) == len(set(page.ids))
    assert {anchor.removeprefix("#") for anchor in page.anchors} <= set(page.ids)
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(page.ids)


def test_it_says_that_the_data_are_simulated(report: Path) -> None:
    assert "SIMULATED DATA" in report.read_text(encoding="utf-8")
    assert "SIMULATED DATA" in (report.parent / "model_card.md").read_text(encoding="utf-8")


def test_real_data_are_not_called_simulated_and_names_are_escaped(bare: Path) -> None:
    text = bare.read_text(encoding="utf-8")
    assert "SIMULATED" not in text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_no_patient_is_named_anywhere(report: Path) -> None:
    assert not [path for path in report.parent.rglob("*") if path.is_file() and b"patient 7" in path.read_bytes()]


def test_numbers_of_the_report_are_those_of_the_metrics(report: Path) -> None:
    metrics = json.loads((report.parent / "metrics.json").read_text())
    text = report.read_text(encoding="utf-8").replace("\u2060", "")
    for split in ("validation", "test"):
        assert with_interval(metrics[split]["auc"]) in text
        balanced = metrics[split]["at_cutoff"]["balanced"]
        assert (
            f"Cohen&#39;s kappa {with_interval(balanced['kappa'])}" in text
            or f"Cohen's kappa {with_interval(balanced['kappa'])}" in text
        )
    table = pd.read_csv(report.parent / "tables" / "at_cutoff_test.csv").set_index("cut-off")
    assert table.loc["balanced", "sensitivity low"] == metrics["test"]["at_cutoff"]["balanced"]["sensitivity"]["low"]


def test_table_1_by_hand() -> None:
    baseline = pd.DataFrame(
        {
            "radiograph_id": list("abcdef"), "cohort": ["x", "x", "x", "x", "y", "y"], "split": "train", "label": [1, 1, 0, None, 1, 0],
            "age_years": [30, 40, 50, None, 20, 40], "sex": ["f", "m", "m", "", "f", "f"], "hla_b27": [1, 0, 1, 1, None, None],
        }
    )  # fmt: skip
    rows = {str(row["characteristic"]): list(row.values())[1:] for row in table_1(baseline).rows}
    assert rows["Reference positive, n (%)"] == ["2 (66.7) [1 missing]", "1 (50.0)"]
    assert rows["Age, years, mean (SD)"] == ["40.0 (10.0) [1 missing]", "30.0 (14.1)"]
    assert rows["Sex: m, n (%)"] == ["2 (66.7) [1 missing]", "0 (0.0)"]
    assert rows["HLA-B27, n (%)"] == ["3 (75.0)", "– [2 missing]"]


def test_table_1_has_a_column_for_each_split_of_a_cohort() -> None:
    baseline = pd.DataFrame(
        {
            "radiograph_id": list("abcd"),
            "cohort": ["x", "x", "x", "y"],
            "split": ["train", "train", "validation", "test"],
            "age": [10, 20, 60, 5],
        }
    )
    (row,) = table_1(baseline).rows
    assert list(row)[1:] == ["x (n = 3)", "x, training (n = 2)", "x, validation (n = 1)", "y (n = 1)"]
    assert (row["x (n = 3)"], row["x, training (n = 2)"]) == ("30.0 (26.5)", "15.0 (7.1)")


def test_subgroups_are_all_there_and_small_ones_marked(external: pd.DataFrame) -> None:
    judged = external[external["label"].notna()].reset_index(drop=True)
    baseline = judged[["radiograph_id", "cohort"]].copy()
    baseline["age_years"] = np.arange(80)
    baseline["site"] = ["A"] * 70 + ["B"] * 8 + [None] * 2
    rows = subgroup_rows(judged, baseline, 0.5, small=20)
    by_name = {f"{row['characteristic']} {row['group']}".strip(): row for row in rows}
    assert by_name["All"]["n"] == 80
    assert [row["n"] for row in rows if row["characteristic"] == "Age, years"] == [20, 20, 20, 20]
    assert sum(row["n"] for row in rows if row["characteristic"] == "Site") == 80
    assert by_name["Site B"]["remark"] == "fewer than 20"
    assert by_name["Site not known"]["n"] == 2
    assert by_name["Site A"]["remark"] == ""


def test_the_flow_adds_up(context: ReportContext) -> None:
    steps = flow(context.manifests, {})
    received = [step.count for step in steps if step.level == 0]
    assert received == [155, 100]
    assert sum(step.count for step in steps if step.level == 1) == sum(received)
    assert "20 adjudicated (22.2 %)" in steps[3].details


def test_the_flow_without_manifests_counts_predictions(validation: pd.DataFrame, external: pd.DataFrame) -> None:
    steps = flow([], {"validation": validation.assign(subset="concordant"), "test": external})
    assert [step.count for step in steps] == [90, 90, 100, 80, 20]


def test_words() -> None:
    assert readable("symptom_duration_years") == "Symptom duration, years"
    assert [readable(name) for name in ("hla_b27", "csDMARD", "crp_mg_l", "asdas_crp", "bmi_kg_m2")] == [
        "HLA-B27",
        "csDMARD",
        "CRP, mg/l",
        "ASDAS-CRP",
        "BMI, kg/m²",
    ]
    assert shown({"estimate": None, "low": None, "high": None}) == "–"
    assert shown(0.0001, "McNemar p") == "<0.001"
    assert with_interval({"estimate": 0.5, "low": None, "high": None}) == "0.50"
    assert with_interval({"estimate": -0.214, "low": -0.31, "high": -0.11}) == "−0.21 (−0.31 to −0.11)"
    assert with_interval({"estimate": -0.001, "low": -0.01, "high": 0.003}) == "0.00 (−0.01 to 0.00)"


def test_two_external_cohorts_are_compared_without_a_baseline_too(external: pd.DataFrame) -> None:
    judged = external[external["label"].notna()].assign(cohort=["A"] * 30 + ["B"] * 50)
    rows = subgroup_rows(judged, judged[["radiograph_id", "cohort"]], 0.5, small=20)
    assert [(row["group"], row["n"]) for row in rows] == [("", 80), ("A", 30), ("B", 50)]
