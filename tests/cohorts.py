"""Small cohorts and DICOM files made to measure, and what a run is compared by, for tests of several packages."""

import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import torch
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from sacro_ray.config import Experiment
from sacro_ray.dataset.completion import complete_cohort, prepared_seed, unchanged
from sacro_ray.dataset.half_finished import start_folder
from sacro_ray.dataset.parts import finished_part, write_shard
from sacro_ray.dataset.plan import plan_cohort
from sacro_ray.dataset.replacement import reopen


def dicom_bytes(pixels: np.ndarray, syntax: str = ExplicitVRLittleEndian, bits_stored: int = 12, **tags: object) -> bytes:
    """A digital radiograph of these stored values, shape (rows, columns) or (rows, columns, 3), 8 or 16 bits allocated.

    Further header values by keyword; None leaves one out.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    native = syntax in (ExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian)
    meta.TransferSyntaxUID = syntax if native else ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality = "DX"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else pixels.shape[2]
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored = min(bits_stored, dataset.BitsAllocated)
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    dataset.add_new("PixelData", "OW" if dataset.BitsAllocated == 16 else "OB", data + b"\0" * (len(data) % 2))
    for name, value in tags.items():
        if value is None:
            del dataset[name]
        else:
            setattr(dataset, name, value)
    if not native:
        # GDCM's RLE encoder ends the process on some tiny films; pydicom's own does not.
        dataset.compress(syntax, encoding_plugin="pydicom" if syntax == RLELossless else "")
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def write_cohort(folder: Path, count: int, seed: int, readers: list[str], splits: bool = False) -> Path:
    """A cohort of small PNG pictures, two a patient: noise, and a bright bar across the positive ones."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows, readings = ["radiograph_id,patient_id,path,age_years,sex" + ",split" * splits], ["radiograph_id,reader,grade"]
    for i in range(count):
        grade = (0, 3, 1, 2)[i // 2 % 4]
        pixels = rng.integers(20, 120, (40 + i % 3, 48)).astype(np.uint8)
        if grade >= 2:
            pixels[12:24] += 100
        Image.fromarray(pixels).save(folder / "images" / f"r{seed}{i:03d}.png")
        split = ("train", "train", "validation")[i // 2 % 12 % 3] if splits else ""
        rows.append(
            f"r{seed}{i:03d},p{seed}{i // 2:03d},images/r{seed}{i:03d}.png,{30 + i % 9},{'FM'[i % 2]}" + f",{split}" * splits
        )
        readings += [f"r{seed}{i:03d},{reader},{grade}" for reader in readers]
    (folder / "cohort.csv").write_text("\n".join(rows) + "\n")
    (folder / "readings.csv").write_text("\n".join(readings) + "\n")
    return folder


def cohort_settings(folder: Path, role: str, readers: list[str]) -> dict[str, Any]:
    """The experiment file's table for a cohort of `write_cohort`."""
    return {
        "table": str(folder / "cohort.csv"),
        "readings": str(folder / "readings.csv"),
        "role": role,
        "rule": "grade_at_least:2",
        "consensus": "agreement",
        "readers": readers,
    }


def prepare_here(experiment: Experiment, replace: bool = False) -> Path:
    """`prepare` without Ray: the same plan, shards and manifest, in this process."""
    root, settings = Path(experiment.prepare.shards), experiment.prepare
    for name in experiment.cohorts:
        folder = root / name
        plan = plan_cohort(name, experiment, prepared_seed(folder))
        if unchanged(plan, folder, partial(reopen, plan, folder, settings) if replace else None):
            continue
        start_folder(folder, plan.settings, plan.digest, plan.files)
        parts = [finished_part(shard, folder) or write_shard(shard, folder, settings) for shard in plan.shards]
        complete_cohort(plan, folder, parts, settings)
    return root


def assert_same_run(one: str | Path, other: str | Path) -> None:
    """The same history but for the times, and the same weights to the bit: the best, and those that training ended with."""
    tables = [pd.read_csv(Path(run) / "history.csv").drop(columns=["images_per_s", "seconds"]) for run in (one, other)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    first, second = (torch.load(Path(run) / "checkpoints" / "best.pt", weights_only=True) for run in (one, other))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    first, second = (torch.load(Path(run) / "checkpoints" / "latest.pt", weights_only=True)["network"] for run in (one, other))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


RUN_FILES = {
    "config.toml",
    "history.csv",
    "curves.png",
    "checkpoints/best.pt",
    "checkpoints/best.json",
    "predictions/validation.csv",
}
"""What a complete training has in its run folder."""
