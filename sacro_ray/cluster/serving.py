"""The page for one radiograph on Ray Serve: a reception that speaks HTTP, decoding apart from it, and the network, in batches.

An upload lives in memory: in the proxy, the reception, Ray's object store, and a decoding worker; it is never written or logged
(a Ray of our own does not spill its store to the disk; one that `--address` names does as it was told).
Decoding is a Ray task of its own, because a decoder that a damaged file takes down takes its process with it, and nothing else.
"""

import asyncio
import base64
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import ray
from fastapi import FastAPI
from numpy.typing import NDArray
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.config import HTTPOptions
from ray.serve.exceptions import RayServeException
from ray.serve.schema import LoggingConfig

from sacro_ray import __version__
from sacro_ray.cluster.losses import MACHINE_LOST, MOST_LOSSES, PROCESS_DIED
from sacro_ray.cluster.runtime import ray_session
from sacro_ray.cluster.scoring import ensure_familiarity
from sacro_ray.cluster.scoring_inputs import Whole
from sacro_ray.cluster.scoring_network import Scored, ScoringNetwork
from sacro_ray.cluster.scoring_overlays import as_png, enlarged
from sacro_ray.cluster.scoring_reading import Prepared
from sacro_ray.cluster.scoring_run import ScoringRun
from sacro_ray.cluster.serving_uploads import Shown, decode_upload, show_upload
from sacro_ray.cluster.sizing import cluster_nodes, cpus_of_this_node, largest_share
from sacro_ray.config import Experiment
from sacro_ray.errors import UserError
from sacro_ray.imaging.decode import Box
from sacro_ray.imaging.exclusion import REASONS
from sacro_ray.imaging.remarks import in_words
from sacro_ray.learning.boxes import boxes_of_run
from sacro_ray.learning.inference import INFERENCE_BATCH
from sacro_ray.learning.run_folder import RunFolder
from sacro_ray.serving.answers import Answer, Call, Picture, Refused
from sacro_ray.serving.app import About, build_app

NAME = "sacro_ray"
DECODER_TRIES = 2
LONGEST_REQUEST_S = 120.0
BATCH_WAIT_S = 0.02
"""How long the network waits for company; a radiograph takes it longer than this on a CPU."""
MOST_REQUESTS, LONGEST_QUEUE = 32, 128
"""At a time, and waiting; more get 503. The uploads of those at a time are in memory."""
SHARE = 0.5
"""Of a CPU that the network and each decoding task ask of Ray, so that a machine with one CPU holds both."""
NO_IMAGE = {"not_an_image", "empty_file"}

Square = NDArray[np.uint8]
log = logging.getLogger("sacro_ray")


class Network:
    """The network of a run; radiographs of several requests are scored together."""

    def __init__(self, run: str, experiment: Experiment) -> None:
        gpu = bool(ray.get_gpu_ids())
        self.network = ScoringNetwork(RunFolder.at(run), experiment, gpu, cpus_of_this_node())

    # Ray Serve finds the object that a batch belongs to by the function's name: it must be decorated where it is defined.
    @serve.batch(max_batch_size=INFERENCE_BATCH, batch_wait_timeout_s=BATCH_WAIT_S)  # type: ignore[untyped-decorator]
    async def score(self, requests: list[tuple[Square, bool]]) -> list[tuple[Scored, Square | None]]:
        """Squares, and whether each wants an overlay -> scores, and overlays, uint8 (H, W, 3)."""
        images = np.stack([square for square, _ in requests])
        scored = self.network.score(images)
        wanted = [number for number, (_, overlay) in enumerate(requests) if overlay]
        pictures = dict(zip(wanted, self.network.overlays(images[wanted]), strict=True)) if wanted else {}
        return [(score, pictures.get(number)) for number, score in enumerate(scored)]


class Reception:
    """Speaks HTTP: has an upload decoded apart, and scored."""

    def __init__(self, network: Any, experiment: Experiment, size_px: int, checkpoint: str, about: About) -> None:
        self.network, self.about = network, about
        self.experiment, self.size_px, self.checkpoint = experiment, size_px, checkpoint
        self.decode, self.show = (ray.remote(num_cpus=SHARE, max_retries=0)(task) for task in (decode_upload, show_upload))
        # No more tasks than can run: of those that wait, Ray let some wait half a minute while later ones went before them.
        self.turn = asyncio.Semaphore(max(1, int(ray.cluster_resources().get("CPU", 1))))

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_app(self.answer, self.picture, self.about)

    async def answer(self, data: bytes, box: Box | None, overlay: bool) -> Answer:
        """Score a file's bytes, cut to the box, if there is one.

        Raises:
            Refused: 415 where they are no image, 422 where it cannot be scored, 503 where a part of the service is gone.
        """
        if box is not None and self.experiment.prepare.crop == "none":
            raise Refused(422, "wrong_box", 'this run takes whole radiographs (prepare.crop = "none"); send no box')
        whole: Whole = "refused" if self.about.box_needed else "scored"
        prepared: Prepared = await self._decoded(self.decode, data, box, whole, self.experiment, self.size_px)
        if prepared.square is None:
            raise _refused(prepared.error)
        try:
            scored, picture = await self.network.score.remote((prepared.square, overlay))
        except RayTaskError:
            raise Refused(503, "failed", "the network failed over this radiograph; the log of Ray Serve says why") from None
        except (RayError, RayServeException):
            raise Refused(503, "not_ready", "the network is being started anew; try again in a minute") from None
        flags = [*prepared.flags, *scored.flags]
        return Answer(
            remarks=in_words(flags),
            probability=scored.probability,
            calls={
                name: Call(cutoff=cutoff, definite=scored.probability >= cutoff) for name, cutoff in self.about.cutoffs.items()
            },
            quality=flags,
            familiarity=scored.familiarity,
            run=self.about.run,
            checkpoint=self.checkpoint,
            version=self.about.version,
            radiograph=data_url(as_png(enlarged(prepared.square))) if overlay else None,
            overlay=data_url(as_png(picture)) if picture is not None else None,
        )

    async def picture(self, data: bytes) -> Picture:
        """A file's bytes as a picture on which a box can be drawn.

        Raises:
            Refused: As `answer`.
        """
        shown: Shown = await self._decoded(self.show, data, self.experiment)
        if shown.error:
            raise _refused(shown.error)
        return Picture(picture=data_url(shown.png), width=shown.width, height=shown.height)

    async def _decoded(self, task: Any, *arguments: Any) -> Any:
        """Decode in another process; once more where that died, for it may have been ended for another reason than this file.

        A machine that went away says nothing of the file.
        """
        deaths = losses = 0
        while deaths < DECODER_TRIES and losses < MOST_LOSSES:
            try:
                async with self.turn:
                    return await task.remote(*arguments)
            except PROCESS_DIED:
                deaths += 1
            except MACHINE_LOST:
                losses += 1
            except RayError:
                break
        if deaths < DECODER_TRIES:
            raise Refused(503, "not_ready", "workers or memory are short; try again in a minute")
        raise _refused(f"decoder_crashed: {REASONS['decoder_crashed']}")


def _refused(error: str) -> Refused:
    """The refusal of a file that cannot be read, by the reason of `Prepared` or `Shown`."""
    reason, _, detail = error.partition(": ")
    return Refused(415 if reason in NO_IMAGE else 422, reason, detail)


def data_url(png: bytes) -> str:
    """The bytes of a PNG file as a data URL."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


@contextmanager
def served(run: ScoringRun, host: str, port: int, address: str | None, largest_upload: int) -> Iterator[str]:
    """Serve the page of a run for as long as the block lasts; the value is its address.

    Args:
        run: What scores.
        host: Where to listen.
        port: Where to listen.
        address: Of a Ray cluster, as for the other commands.
        largest_upload: Bytes.

    Raises:
        UserError: This Ray serves something already.
    """
    folder, experiment, description = run.folder, run.experiment, run.description
    about = _about(run, largest_upload)
    os.environ.setdefault("RAY_automatic_object_spilling_enabled", "0")
    quiet = LoggingConfig(log_level="ERROR", enable_access_log=False)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    with ray_session(address):
        if there := serve.status().applications:
            raise UserError(f"this Ray serves {', '.join(sorted(there))} already; give another with --address")
        ensure_familiarity(folder)
        gpus = min(1.0, experiment.scoring.gpus_per_actor) if largest_share(cluster_nodes(), 1)[1] else 0
        network = serve.deployment(Network, max_ongoing_requests=2 * INFERENCE_BATCH, logging_config=quiet).options(
            ray_actor_options={"num_cpus": SHARE, "num_gpus": gpus}
        )
        reception = serve.deployment(
            serve.ingress()(Reception),
            max_ongoing_requests=MOST_REQUESTS,
            max_queued_requests=LONGEST_QUEUE,
            ray_actor_options={"num_cpus": 0},
            logging_config=quiet,
        )
        options = HTTPOptions(host=host, port=port, request_timeout_s=LONGEST_REQUEST_S)
        serve.start(proxy_location="HeadOnly", http_options=options, logging_config=quiet)
        try:
            arguments = (experiment, int(description["size_px"]), str(description["sha256"]), about)
            serve.run(reception.bind(network.bind(folder.location, experiment), *arguments), name=NAME)
            yield f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        finally:
            serve.shutdown()


def _about(run: ScoringRun, largest_upload: int) -> About:
    experiment, boxes = run.experiment, boxes_of_run(run.folder, run.description)
    if boxes is None and experiment.prepare.crop != "none":
        log.warning(
            "%s does not say whether it was trained on radiographs cut to boxes, and its shards are not at hand; the page asks for none",
            experiment.name,
        )
    needed = boxes is not None and boxes.needed
    if needed and experiment.prepare.crop == "none":
        raise UserError(
            f'the run {experiment.name} was trained on radiographs cut to boxes, and prepare.crop = "none" leaves boxes aside; '
            "serve it without that setting"
        )
    usual = (boxes.width, boxes.height) if boxes and boxes.width and boxes.height else None
    return About(experiment.name, __version__, run.cutoffs, largest_upload, needed, usual)
