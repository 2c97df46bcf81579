"""The page on Ray Serve: the run's own scores, company in a batch, refusals, dead decoders, and nothing left behind."""

import asyncio
import csv
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import ray
from ray.serve.exceptions import BackPressureError
from serving_fakes import ABOUT, noise, png_bytes

from sacro_ray.cluster.scoring_network import Scored
from sacro_ray.cluster.scoring_run import ScoringRun
from sacro_ray.cluster.serving import Network, Reception, served
from sacro_ray.errors import UserError
from sacro_ray.serving.answers import Refused

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
PARITY = 1e-4


@pytest.fixture
def validation(experiment, random_run) -> dict[Path, float]:
    """Files of validation radiographs and their probabilities as train wrote them."""
    table = Path(experiment.cohorts["ours"].table)
    with table.open(newline="") as file:
        paths = {row["radiograph_id"]: table.parent / row["path"] for row in csv.DictReader(file)}
    with random_run.validation_predictions.open(newline="") as file:
        return {paths[row["radiograph_id"]]: float(row["probability"]) for row in csv.DictReader(file)}


def post(url: str, data: bytes, **parameters: str) -> httpx.Response:
    return httpx.post(url + "score", files={"file": ("Doe_Jane.dcm", data)}, params=parameters, timeout=60)


def test_requests_at_once_each_get_the_score_of_their_own_radiograph(served_run, validation):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda path: post(served_run, path.read_bytes()).json(), validation))
    found = [answer["probability"] for answer in answers]
    assert found == pytest.approx(list(validation.values()), abs=PARITY)
    assert np.ptp(found) > 100 * PARITY, "the scores must differ for this to mean anything"
    for answer in answers:
        assert set(answer["calls"]) == {"sensitivity", "specificity", "balanced"}
        for call in answer["calls"].values():
            assert call["definite"] == (answer["probability"] >= call["cutoff"])
        assert 0 <= answer["familiarity"] <= 100


def test_a_dicom_file_with_an_overlay_and_its_flags(served_run, make_dicom):
    pixels = np.random.default_rng(0).integers(0, 4096, (50, 60)).astype(np.uint16)
    answer = post(served_run, make_dicom(pixels, BodyPartExamined="KNEE", PatientName="Doe^Jane"), overlay="true")
    assert answer.status_code == 200
    assert answer.json()["quality"][0] == "other_body_part"
    assert answer.json()["overlay"].startswith("data:image/png;base64,iVBOR")
    assert "Doe" not in answer.text


def test_what_cannot_be_scored_is_refused_by_the_real_decoders_too(served_run, make_dicom):
    good = make_dicom(np.ones((64, 64), np.uint16))
    refused = {
        b"%PDF-1.7 no image": (415, "not_an_image"),
        b"": (415, "empty_file"),
        good[: len(good) - 6000]: (422, "truncated"),
        make_dicom(np.ones((8, 8), np.uint16), Modality="CT"): (422, "wrong_modality"),
        png_bytes(noise())[:300]: (422, "truncated"),
        b"x" * (2**20 + 1): (413, "too_large_file"),
    }
    answers = {data: post(served_run, data) for data in refused}
    found = {data: (answer.status_code, answer.json()["reason"]) for data, answer in answers.items()}
    assert list(found.values()) == list(refused.values())
    assert httpx.post(served_run + "score", content=b"x").status_code == 415


def test_nothing_of_an_upload_is_on_the_disk_or_in_a_log(served_run, make_dicom):
    secret = "Zwirbelbein"
    for damage in (0, 3000):
        data = make_dicom(np.ones((64, 64), np.uint16), PatientName=f"{secret}^Eva", PatientID=secret)
        httpx.post(served_run + "score", files={"file": (f"{secret}.dcm", data[: len(data) - damage])}, timeout=60)
    session = Path(ray._private.worker.global_worker.node.get_session_dir_path())
    files = [path for path in session.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_a_ray_that_serves_is_not_taken_over(served_run, random_run):
    with (
        pytest.raises(UserError, match="serves sacro_ray already"),
        served(ScoringRun.at(random_run.path), "127.0.0.1", 1234, None, 2**20),
    ):
        pass
    assert httpx.get(served_run).status_code == 200


def test_requests_that_arrive_together_are_one_batch(local_ray, experiment, random_run, monkeypatch):
    # A batch's queue asks the replica that it belongs to for its limit.
    replica = SimpleNamespace(_deployment_config=SimpleNamespace(max_ongoing_requests=64))
    monkeypatch.setattr(ray.serve, "get_replica_context", lambda: replica)
    network = Network(random_run.path, experiment)
    squares = [np.random.default_rng(i).integers(0, 255, (48, 48), dtype=np.uint8) for i in range(5)]
    alone = [network.network.score(square[None])[0].probability for square in squares]
    sizes, score = [], network.network.score

    def counted(images: np.ndarray) -> list[Scored]:
        sizes.append(len(images))
        return score(images)

    network.network.score = counted

    async def together():
        return await asyncio.gather(*(network.score((square, i == 3)) for i, square in enumerate(squares)))

    answers = asyncio.run(together())
    assert sizes == [5]
    assert [scored.probability for scored, _ in answers] == pytest.approx(alone, abs=1e-5)
    assert [picture is not None for _, picture in answers] == [False, False, False, True, False]


async def score_half(request):
    return Scored(0.5, None, ()), None


def test_a_file_that_takes_its_decoder_down_is_refused_after_a_second_try(local_ray, experiment, tmp_path):
    def dies(data, box, whole, experiment, size_px):  # in here, so that it travels by value: no worker imports this module
        with Path(tries).open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)

    tries = str(tmp_path / "tries")
    network = SimpleNamespace(score=SimpleNamespace(remote=score_half))
    reception = Reception(network, experiment, 48, "", ABOUT)
    reception.decode = ray.remote(num_cpus=0.5, max_retries=0)(dies)
    with pytest.raises(Refused) as refused:
        asyncio.run(reception.answer(b"x", None, False))
    assert (refused.value.status, refused.value.refusal.reason) == (422, "decoder_crashed")
    assert Path(tries).read_text() == "xx"


GONE = [
    (ray.exceptions.ActorDiedError(), "not_ready"),
    (BackPressureError(9, 9), "not_ready"),
    (ray.exceptions.RayTaskError("score", "traceback", ValueError("x")), "failed"),
]


@pytest.mark.parametrize(("error", "reason"), GONE, ids=[type(error).__name__ for error, _ in GONE])
def test_a_network_that_is_gone_or_fails_is_said(local_ray, experiment, error, reason):
    async def gone(request):
        raise error

    reception = Reception(SimpleNamespace(score=SimpleNamespace(remote=gone)), experiment, 48, "", ABOUT)
    with pytest.raises(Refused) as refused:
        asyncio.run(reception.answer(png_bytes(noise()), None, False))
    assert (refused.value.status, refused.value.refusal.reason) == (503, reason)
