import csv
from dataclasses import dataclass

import numpy as np
import pytest
from cohorts import cohort_settings, prepare_here, write_cohort
from hypothesis import given, settings
from hypothesis import strategies as st

from sacro_ray.config import build_experiment
from sacro_ray.dataset.leaks import (
    NEAR_BITS,
    duplicates,
    near_duplicates,
    perceptual_hash,
    pixel_digest,
    refuse_pixels_in_development_and_test,
    refuse_pixels_in_two_splits,
    same_films,
)
from sacro_ray.errors import UserError


@dataclass(frozen=True)
class Film:
    radiograph_id: str
    split: str
    pixel_sha256: str
    stored_sha256: str = ""


def test_pixel_digest_tells_pictures_apart():
    pixels = np.arange(24, dtype=np.uint8)
    assert pixel_digest(pixels.reshape(4, 6)) == pixel_digest(np.asfortranarray(pixels.reshape(4, 6)))
    assert pixel_digest(pixels.reshape(4, 6)) != pixel_digest(pixels.reshape(6, 4))


def test_duplicates_within_and_between():
    films = [Film(*film.split()) for film in ("b train 1", "a train 1", "c train 2", "d validation 2", "e train 3")]
    groups = duplicates(films)
    assert [[film.radiograph_id for film in group] for group in groups] == [["a", "b"], ["c", "d"]]
    with pytest.raises(UserError, match=r"1 pictures are in two splits: c \(train\) = d \(validation\)"):
        refuse_pixels_in_two_splits("ours", groups)
    refuse_pixels_in_two_splits("ours", groups[:1])
    with pytest.raises(UserError, match=r"e \(ours\) = x \(theirs\)"):
        refuse_pixels_in_development_and_test({"ours": films}, {"theirs": [Film("x", "test", "3"), Film("y", "test", "9")]})
    refuse_pixels_in_development_and_test({"ours": films}, {"theirs": [Film("y", "test", "9")]})


def test_two_crops_of_one_film_are_a_leak_in_two_splits_and_no_duplicates_in_one():
    films = [Film("right", "train", "1", "film"), Film("left", "train", "2", "film"), Film("other", "train", "3", "another")]
    assert duplicates(films) == []
    assert [[film.radiograph_id for film in group] for group in same_films(films)] == [["left", "right"]]
    refuse_pixels_in_two_splits("ours", same_films(films))
    torn = [*films, Film("again", "validation", "4", "film")]
    with pytest.raises(
        UserError, match=r"1 pictures are in two splits: again \(validation\) = left \(train\) = right \(train\)"
    ):
        refuse_pixels_in_two_splits("ours", same_films(torn))
    with pytest.raises(UserError, match=r"1 pictures .* right \(ours\) = left \(ours\) = x \(theirs\)"):
        refuse_pixels_in_development_and_test({"ours": films}, {"theirs": [Film("x", "test", "9", "film")]})
    assert same_films([Film("a", "train", "1"), Film("b", "train", "2")]) == []  # an index of before, without the column


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60))
def test_near_duplicates_are_those_of_all_pairs(seed, count):
    """Against a plain comparison of all pairs: all up to 15 bits apart, and nothing beyond NEAR_BITS."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (count, 256)).astype(np.uint8)
    for i in range(1, count, 2):  # every other one is its neighbour with a few bits turned
        bits[i] = bits[i - 1]
        turned = rng.choice(256, rng.integers(0, 40), replace=False)
        bits[i, turned] ^= 1
    distances = (bits[:, None] != bits[None]).sum(2)
    found = near_duplicates([np.packbits(row).tobytes().hex() for row in bits])
    assert all(distances[i, j] == d <= NEAR_BITS and i < j for i, j, d in found)
    certain = {(i, j) for i in range(count) for j in range(i + 1, count) if distances[i, j] <= 15}
    assert certain <= {(i, j) for i, j, _ in found}
    assert near_duplicates([]) == []


def test_another_export_of_a_film_looks_alike_and_another_film_does_not():
    def film(seed):
        rng = np.random.default_rng(seed)
        coarse = rng.normal(size=(12, 12))
        smooth = np.kron(coarse, np.ones((20, 20)))
        for axis in (0, 1):
            smooth = sum(np.roll(smooth, k, axis) for k in range(-12, 13)) / 25
        return (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)

    one = film(0)
    exports = [
        one // 16 * 16,
        one.reshape(120, 2, 120, 2).mean((1, 3)).astype(np.uint8),
        (255 * (one / 255) ** 0.8).astype(np.uint8),
    ]
    hashes = [perceptual_hash(pixels) for pixels in [one, *exports, film(1), film(2)]]
    pairs = {(i, j) for i, j, _ in near_duplicates(hashes)}
    assert {(0, 1), (0, 2), (0, 3)} <= pairs
    assert all(j < 4 for _, j in pairs)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_film_sent_twice_under_another_crop_is_found_in_two_splits_alone(tmp_path, split):
    folder = write_cohort(tmp_path / "ours", 24, 1, ["a"], splits=True)
    with (folder / "cohort.csv").open() as file:
        rows = [{**row, "crop_left": "", "crop_top": "", "crop_right": "", "crop_bottom": ""} for row in csv.DictReader(file)]
    box = {"crop_left": 0, "crop_top": 0, "crop_right": 40, "crop_bottom": 36}
    assert rows[0]["split"] == "train"
    rows.append({**rows[0], "radiograph_id": "again", "patient_id": "another number", "split": split, **box})
    with (folder / "cohort.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with (folder / "readings.csv").open("a") as file:
        file.write("again,a,0\n")
    experiment = build_experiment(
        {
            "name": "small",
            "cohorts": {"ours": cohort_settings(folder, "development", ["a"])},
            "prepare": {"shards": str(tmp_path / "shards")},
        }
    )
    if split == "train":
        prepare_here(experiment)
    else:
        with pytest.raises(UserError, match=r"1 pictures are in two splits: again \(validation\) = r1000 \(train\)"):
            prepare_here(experiment)
