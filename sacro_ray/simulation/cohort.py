"""Write the simulated cohorts in the input format: `OUT/<study>/cohort.csv`, `readings.csv` and one DICOM file a radiograph.

Each patient has streams of chance of their own, so a larger cohort begins with the patients of a smaller one. Files appear complete or
not at all and the tables come last: started again after a kill, the writing goes on where it stopped.
"""

import csv
import io
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sacro_ray.dataset.progress import Progress
from sacro_ray.disk import remove_leftovers, write_atomically
from sacro_ray.errors import UserError
from sacro_ray.simulation.anatomy import Sex
from sacro_ray.simulation.dicom import encode_dicom
from sacro_ray.simulation.joints import grade_of
from sacro_ray.simulation.patients import Baseline, sample_baseline
from sacro_ray.simulation.radiograph import hand_drawn_box, render_radiograph
from sacro_ray.simulation.reading import sample_latent, sample_readings, severity_of
from sacro_ray.simulation.studies import GESPIC, PROOF, Study

STUDIES = {study.name: study for study in (PROOF, GESPIC)}
FORMAT = 2  # raised when the same parameters would give other files
CHUNK = 16  # radiographs handed to a process at once
WORTH_A_PROCESS = 48  # radiographs: a process takes about two seconds to start, a radiograph 50 ms
CLINICAL, PICTURE = 0, 1  # streams of chance of a patient

Chunk = tuple[str, int, int]  # study, first patient, and the one after the last


@dataclass(frozen=True)
class Patient:
    """One simulated patient with one radiograph: everything but the picture."""

    number: int
    radiograph_id: str
    patient_id: str
    severity: NDArray[np.float64]
    readings: dict[str, NDArray[np.int64]]
    baseline: Baseline


def sample_patient(study: Study, number: int, seed: int = 0) -> Patient:
    """Draw patient `number` (from 1) of a study: it depends on nothing but the study, the number and the seed."""
    rng = np.random.default_rng([seed, study.stream, number, CLINICAL])
    score, latent = sample_latent(rng, study)
    name = f"SIM-{study.name.upper()}-{number:05d}"
    readings = sample_readings(rng, study, latent)
    return Patient(number, name, f"{name}-P", severity_of(latent), readings, sample_baseline(rng, study, score))


def radiograph_bytes(study: Study, patient: Patient, seed: int, size_px: int) -> bytes:
    """The patient's radiograph as a DICOM file."""
    rng, sex = _picture_stream(study, patient, seed), _sex(patient)
    right, left = (float(value) for value in patient.severity)
    monochrome1 = bool(rng.random() < study.style.monochrome1_share)
    pixels, spacing_mm = render_radiograph(rng, right, left, sex, study.style, size_px)
    age, site = int(patient.baseline["age_years"] or 0), f"{study.title} site {patient.baseline['site']}"
    return encode_dicom(pixels, spacing_mm, patient.radiograph_id, patient.patient_id, sex, age, site, monochrome1)


def crop_box(study: Study, patient: Patient, seed: int, size_px: int) -> dict[str, int]:
    """The box drawn by hand on that radiograph, as the columns of cohort.csv."""
    box = hand_drawn_box(_picture_stream(study, patient, seed), _sex(patient), study.style, size_px)
    return dict(zip(("crop_left", "crop_top", "crop_right", "crop_bottom"), box, strict=True))


def _picture_stream(study: Study, patient: Patient, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, study.stream, patient.number, PICTURE])


def _sex(patient: Patient) -> Sex:
    return "male" if patient.baseline["sex"] == "male" else "female"


def write_cohorts(
    out: Path, patients: int, test_patients: int | None = None, seed: int = 0, size_px: int = 640, workers: int | None = None
) -> None:
    """Write both cohorts below `out`; do nothing where they are complete, go on where they are not.

    Args:
        out: Folder; made where missing.
        patients: Size of the PROOF-like cohort, at least 1.
        test_patients: Size of the GESPIC-like cohort; None: in the proportion of the studies, 458 to 1553.
        seed: The same seed gives the same bytes.
        size_px: Longest side of a radiograph at most, at least 64.
        workers: Processes; None: one a CPU.

    Raises:
        UserError: `out` holds a simulation with other parameters, or a number is out of range.
    """
    if test_patients is None:  # at least one, however small the other cohort
        test_patients = max(1, round(patients * GESPIC.radiographs / PROOF.radiographs))
    _check(
        patients=(patients, 1, 99999),
        test_patients=(test_patients, 1, 99999),
        seed=(seed, 0, 2**63 - 1),
        size_px=(size_px, 64, 4096),
        workers=(1 if workers is None else workers, 1, 1024),
    )
    sizes = {PROOF.name: patients, GESPIC.name: test_patients}
    parameters = {"format": FORMAT, "radiographs": sizes, "seed": seed, "size_px": size_px}
    _claim(out, parameters)
    unfinished = [name for name in sizes if not (out / name / "cohort.csv").exists()]
    chunks = [
        (name, start, min(start + CHUNK, sizes[name] + 1)) for name in unfinished for start in range(1, sizes[name] + 1, CHUNK)
    ]
    total = sum(sizes[name] for name in unfinished)
    progress = Progress("simulated", total)
    processes = min(workers or os.cpu_count() or 1, os.cpu_count() or 1, -(-total // WORTH_A_PROCESS))
    for count in _in_processes(partial(_write_chunk, out, seed, size_px), chunks, processes):
        progress.advance(count)
    if total:
        progress.close()
    for name in unfinished:
        patients_of = [sample_patient(STUDIES[name], number, seed) for number in range(1, sizes[name] + 1)]
        _write_tables(out / name, patients_of, [crop_box(STUDIES[name], patient, seed, size_px) for patient in patients_of])


def _check(**numbers: tuple[int, int, int]) -> None:
    for name, (value, low, high) in numbers.items():
        if not low <= value <= high:
            raise UserError(f"{name.replace('_', '-')} is {value}; allowed are {low} to {high}")


def _claim(out: Path, parameters: dict[str, object]) -> None:
    """Mark the folder with its parameters, or refuse one that is in use for something else."""
    mark, text = out / "simulation.json", json.dumps(parameters, indent=2) + "\n"
    if mark.exists():
        if mark.read_text(encoding="utf-8") != text:
            raise UserError(
                f"{out} holds a simulation with other parameters ({mark.name} says which); give another folder, or remove this one"
            )
        remove_leftovers(out)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and holds no simulation; give a new or an empty folder")
    else:
        out.mkdir(parents=True, exist_ok=True)
        _write(mark, text.encode())


def _in_processes(work: Callable[[Chunk], int], chunks: list[Chunk], processes: int) -> Iterator[int]:
    if processes <= 1:
        yield from map(work, chunks)
        return
    # Spawned, not forked: the caller may run threads.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        # Ctrl-C is this process's: those that are started while it is held back never hear it, and end with the chunk at hand.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            results = pool.map(work, chunks)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        yield from results


def _write_chunk(out: Path, seed: int, size_px: int, chunk: Chunk) -> int:
    """Write the radiographs of a chunk that are not there yet; answers how many the chunk holds."""
    name, start, end = chunk
    folder = out / name / "radiographs"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, end):
        patient = sample_patient(STUDIES[name], number, seed)
        path = folder / f"{patient.radiograph_id}.dcm"
        if not path.exists():
            _write(path, radiograph_bytes(STUDIES[name], patient, seed, size_px))
    return end - start


def _write_tables(folder: Path, patients: list[Patient], boxes: list[dict[str, int]]) -> None:
    """readings.csv, truth.csv (the grades that were drawn) and, last of all, cohort.csv."""
    ids = [{"radiograph_id": patient.radiograph_id} for patient in patients]
    readings = [
        {"radiograph_id": patient.radiograph_id, "reader": reader, "grade_right": int(grades[0]), "grade_left": int(grades[1])}
        for patient in patients
        for reader, grades in patient.readings.items()
    ]
    truth = [
        {**row, **{f"grade_{side}": grade_of(value) for side, value in zip(("right", "left"), patient.severity, strict=True)},
         **{f"severity_{side}": f"{value:.4f}" for side, value in zip(("right", "left"), patient.severity, strict=True)}}
        for row, patient in zip(ids, patients, strict=True)
    ]  # fmt: skip
    cohort = [
        {**row, "patient_id": patient.patient_id, "path": f"radiographs/{patient.radiograph_id}.dcm", **box, **patient.baseline}
        for row, patient, box in zip(ids, patients, boxes, strict=True)
    ]
    for name, rows in (("readings.csv", readings), ("truth.csv", truth), ("cohort.csv", cohort)):
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        _write(folder / name, buffer.getvalue().encode())


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, content, durable=False)
