"""The training run: phases of epochs, the best weights of each start the next, and a run that was stopped goes on where it was.

Source: Bressem et al. 2021, Model training. Everything random is drawn from (seed, epoch, rank), so a resumed run and an undisturbed
one take the same steps.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sacro_ray.config import Experiment
from sacro_ray.dataset.batches import batch_sizes
from sacro_ray.dataset.streaming import ahead
from sacro_ray.errors import UserError
from sacro_ray.learning.augmentation import augment
from sacro_ray.learning.boxes import Boxes, boxes_in
from sacro_ray.learning.data import StageData, check_classes, data_digests, open_stage
from sacro_ray.learning.inference import area_under_roc, score_split
from sacro_ray.learning.network import SacroiliitisNet, build_network, empty_network, folded
from sacro_ray.learning.objective import mixup, smoothed_cross_entropy
from sacro_ray.learning.optimisation import build_optimizer, build_schedule, first_not_finite
from sacro_ray.learning.place import Place, autocast, fetcher, prepare_device, resolved_precision
from sacro_ray.learning.provenance import describe
from sacro_ray.learning.range_finder import find_rate
from sacro_ray.learning.run_folder import RunFolder
from sacro_ray.learning.stages import Phase, body_is_fixed, plan
from sacro_ray.learning.steps import DROPOUT_STREAM, Step, steps_of

log = logging.getLogger("sacro_ray")
Row = dict[str, Any]
SAVING_SHARE = 0.05
"""Of the time, at most, that goes into states of epochs without a new best: those of a fraction of a second, as on GPUs, share one."""


class DivergedError(RuntimeError):
    """The loss is no longer a finite number."""


class TrainingRun:
    """One run of an experiment in one process; other ranks hold the same.

    Attributes:
        history: One row an epoch, as in history.csv.
        best_auc: Highest validation AUC so far.
    """

    def __init__(self, experiment: Experiment, folder: RunFolder, place: Place) -> None:
        self.experiment, self.training = experiment, experiment.training
        self.folder, self.place = folder, place
        prepare_device(place.device, self.training)
        self.phases = plan(self.training)
        self.history: list[Row] = []
        self.best_auc = -1.0
        self.phase_auc = -1.0
        self.phase_best: dict[str, Tensor] = {}
        self._next_state_at = 0.0
        self.cohorts = experiment.cohorts_of("development")
        self.digests = data_digests(experiment, self.cohorts)
        self.boxes: Boxes | None = None
        torch.manual_seed(experiment.seed)
        network = build_network(experiment.model)
        if self.training.synchronised_batch_norm and place.ranks > 1:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        self.network = network.to(place.device).to(memory_format=torch.channels_last)

    def fit(self, on_epoch: Callable[[Row], None] = lambda row: None) -> None:
        """Train what is left to train; `on_epoch` is called on every rank after each epoch."""
        state = self.folder.load_latest()
        if state is not None:
            self._restore(state)
            if self.place.first:
                self.folder.save_history(self.history)
        for phase in self.phases:
            done = len(self.history)
            if done >= phase.last_epoch:
                continue
            data = open_stage(self.experiment, phase.size_px)
            check_classes(data)
            self.boxes = boxes_in(self.experiment.prepare.shards, self.cohorts, data.training.records)
            if done < phase.first_epoch:
                if self.phase_best:
                    self.network.load_state_dict(self.phase_best)
                self.phase_auc, state = -1.0, None
            self._fit_phase(phase, data, state, on_epoch)
            del data  # its cache is no longer in use, and may make room for that of the next size

    def _fit_phase(self, phase: Phase, data: StageData, state: dict[str, Any] | None, on_epoch: Callable[[Row], None]) -> None:
        frozen = phase.name == "frozen"
        self.network.body.requires_grad_(not frozen)
        steps = len(batch_sizes(len(data.training.images), phase.batch_size, self.place.ranks))
        lr = self._rate(phase, data, state)
        optimizer = build_optimizer(self.network, self.training, lr)
        schedule = build_schedule(optimizer, self.training, steps * phase.epochs)
        average = self._averaged()
        if state is not None:
            optimizer.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
            if average is not None:
                average.load_state_dict(state["average"])
        trained = self.trained_in(phase)
        parallel = self.place.parallel(trained)
        model = torch.compile(parallel) if self.training.compile else parallel
        for epoch in range(len(self.history) + 1, phase.last_epoch + 1):
            started = time.perf_counter()
            loss = self.train_epoch(model, phase, data, epoch, optimizer, schedule, average)
            trained_s = time.perf_counter() - started
            self._share_statistics(average)
            auc = self._validate(data, trained, average)
            row: Row = {
                "epoch": epoch, "stage": phase.stage + 1, "size_px": phase.size_px, "phase": phase.name, "lr": lr,
                "train_loss": round(loss, 6), "val_auc": auc, "best_val_auc": max(auc, self.best_auc),
                "images_per_s": round(len(data.training.images) / trained_s, 2), "seconds": round(time.perf_counter() - started, 3),
            }  # fmt: skip
            keeping = time.perf_counter()
            kept = self._keep(row, phase, optimizer, schedule, average)
            on_epoch(row)  # which may send what was kept to a bucket
            if kept:
                self._next_state_at = time.perf_counter() + (time.perf_counter() - keeping) / SAVING_SHARE

    def train_epoch(
        self, model: Any, phase: Phase, data: StageData, epoch: int,
        optimizer: AdamW, schedule: LRScheduler, average: AveragedModel | None,
    ) -> float:  # fmt: skip
        """Train one epoch; answers the mean loss over all ranks."""
        self.network.train()
        place, seed = self.place, self.experiment.seed
        torch.manual_seed(int(np.random.SeedSequence((seed, DROPOUT_STREAM, epoch, place.rank)).generate_state(1)[0]))
        labels = data.training.labels
        steps = steps_of(epoch, labels, phase.batch_size, self.training, seed, place)
        losses: list[Tensor] = []
        batches = ahead(data.training.images, [step.indices for step in steps], fetcher(place.device))
        for step, pixels in zip(steps, batches, strict=True):
            images = augment(pixels, step.changes)
            if self.training.mixup_alpha:
                images = mixup(images, step.weights, step.partners)
            with autocast(place.device, self.training.precision):
                logits = model(images.contiguous(memory_format=torch.channels_last))
            # DDP averages over ranks; this weight makes that average the mean over the global batch, however uneven the shares.
            each = smoothed_cross_entropy(logits, step.targets, self.training.label_smoothing)
            loss = each.sum() * (place.ranks / step.radiographs)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            if average is not None:
                average.update_parameters(self.network)
            losses.append(loss.detach())
        self._stop_if_diverged(losses, steps, data, epoch)
        weights = np.array([step.radiographs for step in steps]) / len(labels)
        mine = float((torch.stack(losses).double().cpu().numpy() * weights).sum())
        return float(np.mean(place.gather(mine)))

    def _stop_if_diverged(self, losses: list[Tensor], steps: list[Step], data: StageData, epoch: int) -> None:
        number = first_not_finite(losses)
        records = data.training.records
        mine = None if number is None else (number, [str(records[i]["radiograph_id"]) for i in steps[number].indices])
        found = [theirs for theirs in self.place.gather(mine) if theirs is not None]
        if not found:
            return
        # One step later the gradient has carried it to every rank.
        first = min(number for number, _ in found)
        names = [name for number, part in found if number == first for name in part]
        raise DivergedError(
            f"the loss of epoch {epoch} is not finite; the batch held the radiographs {', '.join(names)}. "
            'The last checkpoints are kept. Lower training.lr, or set training.precision = "fp32"'
        )

    def _rate(self, phase: Phase, data: StageData, state: dict[str, Any] | None) -> float:
        """The phase's rate; a range test decides where it is `auto`, once, on the first rank."""
        if phase.lr != "auto":
            return phase.lr
        if state is not None:
            return float(self.history[-1]["lr"])
        rate = None
        if self.place.first:
            rate = find_rate(self.copy_for(phase), phase, data, self.experiment, self.place, self.folder)
        return float(self.place.from_first(rate))

    def trained_in(self, phase: Phase) -> SacroiliitisNet:
        """What the batches of a phase go through; the parameters that it changes are the network's."""
        return self._folded(self.network) if body_is_fixed(phase, self.training) else self.network

    def _folded(self, network: SacroiliitisNet) -> SacroiliitisNet:
        """`folded`, for many batches: the weights of the body are rounded to bf16 once, where each batch would round them anew."""
        twin = folded(network)
        if resolved_precision(self.place.device, self.training.precision) == "bf16":
            twin.body.to(torch.bfloat16)
        return twin

    def copy_for(self, phase: Phase) -> SacroiliitisNet:
        """A copy of the network that this rank can train while the others wait: its batch norm is never synchronised."""
        copied = empty_network(self.experiment.model)
        copied.load_state_dict(self.network.state_dict())
        copied.body.requires_grad_(phase.name == "unfrozen")
        return copied.to(self.place.device).to(memory_format=torch.channels_last)

    def _averaged(self) -> AveragedModel | None:
        decay = self.training.weight_averaging
        return AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True) if decay else None

    def _share_statistics(self, average: AveragedModel | None) -> None:
        """Give all ranks the batch-norm statistics of the first; each has seen its own share of the batches."""
        if self.place.ranks > 1:
            for buffer in (*self.network.buffers(), *(average.buffers() if average is not None else ())):
                torch.distributed.broadcast(buffer, src=0)

    def _validated(self, average: AveragedModel | None) -> SacroiliitisNet:
        network = self.network if average is None else average.module
        assert isinstance(network, SacroiliitisNet)
        return network

    def _validate(self, data: StageData, trained: SacroiliitisNet, average: AveragedModel | None) -> float:
        scores = score_split(
            self._folded(trained if average is None else self._validated(average)),
            data.validation.images,
            self.place,
            self.training.precision,
            self.training.flip_at_inference,
        )
        return area_under_roc(data.validation.labels, scores)

    def _keep(self, row: Row, phase: Phase, optimizer: AdamW, schedule: LRScheduler, average: AveragedModel | None) -> bool:
        """Put the epoch on the disk: the best weights first, then the state that knows of them; answers whether there was one."""
        auc = row["val_auc"]
        due = row["epoch"] == phase.last_epoch or auc > self.best_auc or time.perf_counter() >= self._next_state_at
        if auc > self.phase_auc:
            self.phase_auc = auc
            weights = self._validated(average).state_dict()
            self.phase_best = {name: value.detach().to("cpu", copy=True) for name, value in weights.items()}
        if auc > self.best_auc:
            self.best_auc = auc
            if self.place.first:
                described = describe(self.experiment, self.digests, self.place.device, row, self.boxes)
                self.folder.save_best(self.phase_best, described)
        self.history.append(row)
        if self.place.first:
            if due:
                self.folder.save_latest(self._state(optimizer, schedule, average))
            self.folder.save_history(self.history)
        return due

    def _state(self, optimizer: AdamW, schedule: LRScheduler, average: AveragedModel | None) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "average": None if average is None else average.state_dict(),
            "phase_best": self.phase_best,
            "phase_auc": self.phase_auc,
            "best_auc": self.best_auc,
            "history": self.history,
            "digests": self.digests,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        if state["digests"] != self.digests:
            raise UserError("the shards are not those that this run began with; train under another name, or bring them back")
        self.network.load_state_dict(state["network"])
        self.history, self.best_auc = list(state["history"]), state["best_auc"]
        self.phase_best, self.phase_auc = state["phase_best"], state["phase_auc"]
        log.info("going on after epoch %d", len(self.history))
