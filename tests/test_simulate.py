"""The command `simulate`: its arguments, exit status and output."""

import pytest

from sacro_ray import simulate


def test_last_line_is_the_folder(tmp_path, capsys):
    simulate.cli([str(tmp_path / "new"), "--patients", "2", "--test-patients", "1", "--size-px", "64", "--seed", "3"])
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == str(tmp_path / "new")
    assert "simulated: 3 radiographs in" in captured.err
    assert len(list((tmp_path / "new").rglob("*.dcm"))) == 3


def test_wrong_input_ends_with_status_2_and_one_message(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        simulate.cli([str(tmp_path / "new"), "--patients", "0"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: patients is 0; allowed are 1 to")


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as stopped:
        simulate.cli(["--help"])
    assert stopped.value.code == 0
    assert "example: sacro-ray simulate" in capsys.readouterr().out
