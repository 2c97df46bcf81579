from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from sacro_ray.dataset.splits import split_patients

PATIENTS = {f"patient {i}": int(i % 3 > 0) for i in range(1553)}


def test_shares_of_a_cohort_of_the_studys_size():
    splits = split_patients(PATIENTS, 0.15, seed=0)
    counts = Counter((splits[p], label) for p, label in PATIENTS.items())
    for label in (0, 1):
        share = counts["validation", label] / (counts["validation", label] + counts["train", label])
        assert 0.12 < share < 0.18


@settings(deadline=None)
@given(st.integers(0, 5), st.sets(st.integers(0, 1552), max_size=300))
def test_other_patients_and_labels_move_no_one(seed, gone):
    whole = split_patients(PATIENTS, 0.15, seed)
    rest = {p: 1 - label for i, (p, label) in enumerate(PATIENTS.items()) if i not in gone}
    assert split_patients(rest, 0.15, seed) == {p: whole[p] for p in rest}


def test_order_does_not_matter_and_the_seed_does():
    backwards = dict(reversed(PATIENTS.items()))
    assert split_patients(backwards, 0.15, 1) == split_patients(PATIENTS, 0.15, 1)
    assert split_patients(PATIENTS, 0.15, 1) != split_patients(PATIENTS, 0.15, 2)


def test_the_tables_own_split_wins():
    given_splits = dict.fromkeys(list(PATIENTS)[:200], "validation")
    splits = split_patients(PATIENTS, 0.15, 0, given_splits)
    assert all(splits[p] == "validation" for p in given_splits)
    free = split_patients(PATIENTS, 0.15, 0)
    assert all(splits[p] == free[p] for p in PATIENTS if p not in given_splits)


@given(st.integers(0, 1000), st.integers(2, 6), st.integers(2, 6))
def test_small_cohorts_have_both_labels_in_both_splits(seed, negatives, positives):
    labels = {f"n{i}": 0 for i in range(negatives)} | {f"p{i}": 1 for i in range(positives)}
    splits = split_patients(labels, 0.15, seed)
    assert {(splits[p], label) for p, label in labels.items()} == {(s, y) for s in ("train", "validation") for y in (0, 1)}
