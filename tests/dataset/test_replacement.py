"""`prepare --replace`: what is written again, and what a kill leaves behind."""

import hashlib
import shutil
from pathlib import Path

import pytest
from cohorts import cohort_settings, prepare_here, write_cohort

from sacro_ray.config import build_experiment
from sacro_ray.dataset import parts, replacement
from sacro_ray.dataset.completion import prepared_seed
from sacro_ray.dataset.manifest import is_complete, read_manifest, verify
from sacro_ray.errors import UserError

SHARDS = 4


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A cohort of 16 radiographs in four shards, prepared; not to be changed."""
    base = tmp_path_factory.mktemp("replacement")
    write_cohort(base / "ours", 16, 3, ["a"], splits=True)
    prepare_here(experiment_of(base))
    assert len(list(base.glob("shards/ours/*/*.tar"))) == SHARDS
    return base


@pytest.fixture
def own(base, tmp_path):
    """A copy of it, where its files keep their times."""
    return Path(shutil.copytree(base, tmp_path / "own"))


def experiment_of(base, *overrides, shards="shards"):
    return build_experiment(
        {
            "name": "replaced",
            "cohorts": {"ours": cohort_settings(base / "ours", "development", ["a"])},
            "prepare": {"shards": str(base / shards), "samples_per_shard": 4},
        },
        list(overrides),
    )


def regrade(base, name, grade):
    path = base / "ours/readings.csv"
    lines = [f"{name},a,{grade}" if line.startswith(f"{name},") else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def written_again(base, experiment, monkeypatch):
    """The shards that a replacement writes; afterwards all is as if it had been prepared for the first time."""
    written = []
    monkeypatch.setattr(
        "cohorts.write_shard", lambda shard, *rest: (written.append(shard.file), parts.write_shard(shard, *rest))[1]
    )
    prepare_here(experiment, replace=True)
    monkeypatch.setattr("cohorts.write_shard", parts.write_shard)
    afresh = experiment.model_copy(update={"prepare": experiment.prepare.model_copy(update={"shards": str(base / "afresh")})})
    assert digests(base / "shards") == digests(prepare_here(afresh))
    return written


def test_one_corrected_grade_is_one_shard(own, monkeypatch, caplog):
    regrade(own, "r3004", 4)
    with pytest.raises(UserError, match=r"the tables differ, and prepare overwrites nothing unasked. Give --replace"):
        prepare_here(experiment_of(own))
    assert len(written_again(own, experiment_of(own), monkeypatch)) == 1
    assert f"{own}/shards/ours is replaced, for it was prepared from other tables" in caplog.text
    assert "1 of 4 shards are written again" in caplog.text


def test_another_characteristic_and_another_picture_are_a_shard_each(own, monkeypatch):
    table = own / "ours/cohort.csv"
    table.write_text(table.read_text().replace("r3002.png,32", "r3002.png,99"))
    assert len(written_again(own, experiment_of(own), monkeypatch)) == 1
    shutil.rmtree(own / "afresh")
    (own / "ours/images/r3009.png").write_bytes((own / "ours/images/r3008.png").read_bytes() + b"\0")
    assert len(written_again(own, experiment_of(own), monkeypatch)) == 1


@pytest.mark.parametrize(
    ("override", "count"),
    [("prepare.store_size=32", SHARDS), ("prepare.duplicates=drop", 0), ("prepare.samples_per_shard=16", 1)],
)
def test_other_settings_are_as_many_shards_as_hold_something_else(own, monkeypatch, override, count):
    assert len(written_again(own, experiment_of(own, override), monkeypatch)) == count


def test_a_radiograph_less_leaves_no_shard_over(own, monkeypatch):
    lines = (own / "ours/cohort.csv").read_text().splitlines()
    (own / "ours/cohort.csv").write_text(
        "\n".join([lines[0], *[line for line in lines[1:] if ",train" in line][:4], *lines[-2:]]) + "\n"
    )
    written_again(own, experiment_of(own), monkeypatch)
    verify(own / "shards/ours")


def test_a_duplicate_comes_back_when_what_it_was_one_of_has_changed(own, monkeypatch):
    (own / "ours/images/r3001.png").write_bytes((own / "ours/images/r3000.png").read_bytes())
    drop = experiment_of(own, "prepare.duplicates=drop")
    written_again(own, drop, monkeypatch)
    assert [entry.reason for entry in read_manifest(own / "shards", "ours").excluded] == ["duplicate"]
    shutil.rmtree(own / "afresh")
    (own / "ours/images/r3000.png").write_bytes((own / "ours/images/r3002.png").read_bytes())
    written_again(own, drop, monkeypatch)


def test_damaged_shards_and_manifests_are_made_whole(own, monkeypatch):
    shard = own / "shards/ours/train/000000.tar"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match="prepare --replace writes again"):
        prepare_here(experiment_of(own))
    assert written_again(own, experiment_of(own), monkeypatch) == ["train/000000.tar"]
    shutil.rmtree(own / "afresh")
    (own / "shards/ours/manifest.json").write_text('{"schema_version": 1}')
    assert len(written_again(own, experiment_of(own), monkeypatch)) == SHARDS


def test_nothing_changed_is_left_alone(own):
    before = {path: path.stat().st_mtime_ns for path in (own / "shards").rglob("*")}
    prepare_here(experiment_of(own), replace=True)
    assert {path: path.stat().st_mtime_ns for path in (own / "shards").rglob("*")} == before


def test_files_that_are_not_prepares_are_never_replaced(own):
    (own / "shards/ours/manifest.json").unlink()
    with pytest.raises(UserError, match="knows nothing"):
        prepare_here(experiment_of(own), replace=True)


def test_notes_of_a_replacement_that_was_killed_before_it_had_begun_are_not_those_of_the_next(own, monkeypatch):
    regrade(own, "r3004", 4)
    with monkeypatch.context() as patched:
        patched.setattr(replacement, "plan_note", kill)
        with pytest.raises(Killed):
            prepare_here(experiment_of(own), replace=True)
    for number in range(3000, 3016):
        regrade(own, f"r{number}", 1)
    shutil.copytree(own, afresh := own.parent / "afresh")
    shutil.rmtree(afresh / "shards")
    prepare_here(experiment_of(own), replace=True)
    assert digests(own / "shards/ours") == digests(prepare_here(experiment_of(afresh)) / "ours")


class Killed(BaseException):
    """The end of the process."""


def kill(*_):
    raise Killed


def test_a_kill_at_any_change_of_a_file_leaves_the_old_the_new_or_what_goes_on(base, tmp_path, monkeypatch):
    """Before each rename and each removal of a whole replacement, one after the other; then the same command again."""
    ways = {name: getattr(Path, name) for name in ("replace", "unlink")}
    old = read_manifest(base / "shards", "ours")
    changed = Path(shutil.copytree(base, tmp_path / "changed"))
    lines = (changed / "ours/cohort.csv").read_text().splitlines()
    (changed / "ours/cohort.csv").write_text("\n".join([line for line in lines if "r3015" not in line]) + "\n")
    regrade(changed, "r3004", 4)
    wanted = digests(prepare_here(experiment_of(changed, shards="afresh")))
    states, folder = set(), tmp_path / "shards"
    for place in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(base / "shards", folder)
        experiment = experiment_of(changed, f"prepare.shards={folder}", "seed=5")
        left = [place]

        def counted(name, left=left):
            def act(path, *rest, **more):
                if folder in path.parents:
                    left[0] -= 1
                    if left[0] < 0:
                        raise Killed
                return ways[name](path, *rest, **more)

            return act

        with monkeypatch.context() as patched:
            for name in ways:
                patched.setattr(Path, name, counted(name))
            try:
                prepare_here(experiment, replace=True)
            except Killed:
                pass
            else:
                assert digests(folder) == wanted
                break
        if is_complete(folder / "ours"):
            states.add("old" if verify(folder / "ours") == old else "new")
        else:
            states.add("half")
            assert prepared_seed(folder / "ours") == 0, "the split that was kept is still known"
        if states & {"new"}:
            verify(folder / "ours")
        prepare_here(experiment, replace=place % 2 == 0 or is_complete(folder / "ours"))
        assert digests(folder) == wanted
    else:
        pytest.fail("it never came to its end")
    assert {"old", "half"} <= states
