"""Ctrl-C and SIGTERM: the status, and one line that says what is kept and how to go on, whatever they come in the middle of."""

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import time
from importlib.machinery import ModuleSpec

import pytest

from sacro_ray import interruption
from sacro_ray.terminal import wrapped

COMMAND = """
import sys
from sacro_ray import command, interruption
KEPT = "finished epochs are kept"

def ready():
    print("ready", flush=True)

def main(argv):
{body}

command.run(main, kept=KEPT, **{more})
"""
WAITING = "import time; ready(); time.sleep(60)"
SWALLOWING = """
import time
try:
    ready()
    time.sleep(60)
except BaseException:
    raise ImportError("initialization failed") from None
"""
STUBBORN = """
import time
say = ready
while True:
    try:
        say()
        time.sleep(60)
    except BaseException:
        say = lambda: print("again", flush=True)
"""
CHATTING = """
import logging, time
try:
    ready()
    time.sleep(60)
finally:
    logging.getLogger("ray").error("a worker died")
"""
SWEEPING = "interruption.goes_on_with('--resume')\n" + WAITING


def started(tmp_path, body, more="{}", arguments=("a b.toml",), disposition=signal.SIG_DFL):
    script = tmp_path / "command.py"
    script.write_text(COMMAND.format(body=textwrap.indent(body, "    "), more=more))
    process = subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, disposition),
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("body", [WAITING, SWALLOWING, CHATTING], ids=["waiting", "swallowing", "chatting"])
@pytest.mark.parametrize(("number", "status", "what"), [(2, 130, "interrupted"), (15, 143, "ended by SIGTERM")])
def test_a_signal_ends_a_command_with_one_line(tmp_path, body, number, status, what):
    process = started(tmp_path, body)
    process.send_signal(number)
    rest, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert said == f"{what}; finished epochs are kept; to go on: command.py 'a b.toml'\n"
    assert rest == ""


def test_the_second_signal_ends_what_the_first_does_not(tmp_path):
    process = started(tmp_path, STUBBORN)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "again\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "interrupted; finished epochs are kept; to go on: command.py 'a b.toml'\n"


@pytest.mark.parametrize(
    ("body", "more", "arguments", "line"),
    [
        (SWEEPING, "{}", ["x.toml"], "finished epochs are kept; to go on: command.py x.toml --resume"),
        (SWEEPING, "{}", ["x.toml", "--resume"], "finished epochs are kept; to go on: command.py x.toml --resume"),
        (WAITING, "{'goes_on': False}", [], "finished epochs are kept"),
    ],
    ids=["another option", "given already", "nothing to go on with"],
)
def test_the_line_names_the_command_that_goes_on(tmp_path, body, more, arguments, line):
    process = started(tmp_path, body, more, arguments)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == f"interrupted; {line}\n"


def test_a_module_that_is_run_is_named_as_it_was_called(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", ModuleSpec("sacro_ray.train", None))
    monkeypatch.setattr(sys, "argv", ["/somewhere/sacro_ray/train.py", "my file.toml"])
    assert interruption.command_again() == "python -m sacro_ray.train 'my file.toml'"


def test_lines_on_a_terminal_are_broken_between_words_and_elsewhere_not_at_all(tmp_path):
    path = "/a/path/" + 90 * "x"
    text = f"error: {path} is not a run folder (no config.toml in it); give one that train wrote, experiments/runs/NAME"
    master, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    lines = wrapped(text, terminal).split("\n")
    assert len(lines) > 1
    assert all(len(line) <= 80 or path in line for line in lines)
    assert " ".join(line.strip() for line in lines) == text
    with (tmp_path / "log").open("w") as file:
        assert wrapped(text, file.fileno()) == text
    assert wrapped(text, None) == text
    os.close(master)
    os.close(terminal)


def test_what_nohup_and_a_script_s_background_ignore_stays_ignored(tmp_path):
    process = started(tmp_path, "import sys; ready(); sys.stdin.readline()", disposition=signal.SIG_IGN)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate("\n", timeout=60)
    assert (process.returncode, said) == (0, "")


def test_a_library_s_handler_does_not_stay():
    def mine(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, mine)
    try:
        heard = interruption.handlers()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))
        interruption.put_back(heard)
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
def test_ctrl_c_on_the_terminal_reaches_the_processes_of_simulate_without_a_word(tmp_path):
    """All processes of the terminal hear it; the command alone answers."""
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "sacro_ray.simulate", str(out), "--patients", "400", "--workers", "2"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not list(out.glob("*/radiographs/*.dcm")):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[1:] == [
        f"interrupted; finished radiographs are kept; to go on: python -m sacro_ray.simulate {out} --patients 400 --workers 2"
    ]
