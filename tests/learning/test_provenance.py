"""What stands beside the best weights."""

import subprocess

from sacro_ray.learning.provenance import git_revision


def git(folder, *arguments):
    subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments],
        check=True,
        capture_output=True,
    )


def test_the_revision_is_the_commit_and_says_when_files_differ_from_it(tmp_path):
    git_revision.cache_clear()
    assert git_revision(tmp_path) is None
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-m", "first")
    head = subprocess.run(["git", "-C", str(tmp_path), "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    git_revision.cache_clear()
    assert git_revision(tmp_path) == head.strip()
    (tmp_path / "code.py").write_text("2\n")
    git_revision.cache_clear()
    assert git_revision(tmp_path) == head.strip() + "-dirty"
