"""The console script: `sacro-ray NAME ...` runs `python -m sacro_ray.NAME ...`."""

import difflib
import importlib
import sys

from sacro_ray import __version__

COMMANDS = {
    "demo": "the whole path on simulated cohorts, no input needed",
    "simulate": "write simulated cohorts in the input format",
    "prepare": "cohort tables and image files into WebDataset shards",
    "train": "shards into a trained network",
    "tune": "search learning rate, mixup alpha and label smoothing",
    "evaluate": "cut-offs, tables, figures and the report",
    "score": "score a new cohort",
    "serve": "a page that scores one radiograph at a time",
    "doctor": "what works on this machine",
}


def main() -> None:
    """Hand over to the command named first; list the commands where none or an unknown one is named."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name == "--version":
        print(__version__)
        return
    if name not in COMMANDS:
        usage = "usage: sacro-ray COMMAND [ARGUMENTS]   (sacro-ray COMMAND --help says more)\n" + "\n".join(
            f"  {command:<9} {does}" for command, does in COMMANDS.items()
        )
        if name in ("--help", "-h"):
            print(usage)
            return
        close = difflib.get_close_matches(name.lower(), COMMANDS, n=1)
        nearest = f"; the nearest is {close[0]}" if close else ""
        print(f"error: unknown command {name}{nearest}\n{usage}", file=sys.stderr)
        raise SystemExit(2)
    importlib.import_module(f"sacro_ray.{name}").cli(sys.argv[2:])


if __name__ == "__main__":
    main()
