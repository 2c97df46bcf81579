"""The network of the study: a torchvision ResNet on one grey channel, and a head of two linear layers.

Source: Bressem et al. 2021, Model training; the head is that of the study's stack (fastai's `create_head`).
"""

from collections import OrderedDict
from collections.abc import Iterable
from copy import deepcopy
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision import models

from sacro_ray.config import Model
from sacro_ray.errors import UserError
from sacro_ray.learning.readiness import check_weights_exist

# The mean over the channels of ImageNet's mean and standard deviation: one grey channel stands for three equal ones.
GREY_MEAN = (0.485 + 0.456 + 0.406) / 3
GREY_STD = (0.229 + 0.224 + 0.225) / 3
BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


class ConcatPool(nn.Module):
    """Average and maximum over the image, side by side: (N, C, H, W) -> (N, 2 C)."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool float features (N, C, H, W) to (N, 2 C)."""
        return torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)


class SacroiliitisNet(nn.Module):
    """Grey radiographs to one logit each for definite radiographic sacroiliitis.

    A single logit with binary cross entropy is the same as two classes with cross entropy on the difference of their logits.
    """

    def __init__(self, body: nn.Sequential, head: nn.Sequential) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, images: Tensor) -> Tensor:
        """Score images.

        Args:
            images: float (N, 1, H, W) in [0, 1], bone bright.

        Returns:
            Logits (N,).
        """
        logits: Tensor = self.head(self.body((images - GREY_MEAN) / GREY_STD))
        return logits.squeeze(1)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Parameters from the input to the head, in three groups for discriminative rates: early body, late body, head."""
        body = dict(self.body.named_children())
        early, late = ("conv1", "bn1", "layer1", "layer2"), ("layer3", "layer4")
        return [_parameters(body[n] for n in early), _parameters(body[n] for n in late), list(self.head.parameters())]


def _parameters(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters()]


def build_network(settings: Model) -> SacroiliitisNet:
    """The network with its first weights; the head is new, drawn from PyTorch's current random state.

    Raises:
        UserError: The weights are unknown, cannot be fetched or read, or belong to another architecture.
    """
    backbone = getattr(models, settings.architecture)(weights=None)
    if settings.weights != "none":
        _load_backbone(backbone, settings)
    grey = with_grey_stem(backbone)
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    body = nn.Sequential(OrderedDict((name, getattr(grey, name)) for name in names))
    return SacroiliitisNet(body, new_head(2 * backbone.fc.in_features, settings.hidden_units, settings.dropout))


def new_head(features: int, hidden_units: int, dropout: float) -> nn.Sequential:
    """Feature maps (N, features / 2, H, W) to logits (N, 1), drawn from PyTorch's current random state."""
    return nn.Sequential(
        ConcatPool(),
        nn.BatchNorm1d(features),
        nn.Dropout(dropout / 2),
        nn.Linear(features, hidden_units, bias=False),
        nn.ReLU(inplace=True),
        nn.BatchNorm1d(hidden_units),
        nn.Dropout(dropout),
        nn.Linear(hidden_units, 1),
    )


def folded(network: SacroiliitisNet) -> SacroiliitisNet:
    """The same function with less work, for a body that stays as it is: the batch norm of a copy is part of its convolutions.

    The head is the network's own. Scores change by rounding alone. In place of the copy's batch norm stands nothing (`nn.Identity`).
    A folded network is answered as it is.
    """
    if not any(isinstance(module, BATCH_NORMS) for module in network.body.modules()):
        return network
    body = deepcopy(network.body).eval()
    for module in (body, *(block for layer in body.children() if isinstance(layer, nn.Sequential) for block in layer)):
        _fold(module, "conv1", "bn1")
        _fold(module, "conv2", "bn2")
        _fold(module, "conv3", "bn3")
        _fold(getattr(module, "downsample", None), "0", "1")
    return SacroiliitisNet(body.to(memory_format=torch.channels_last), network.head)


def _fold(module: nn.Module | None, convolution: str, norm: str) -> None:
    before, after = (getattr(module, name, None) for name in (convolution, norm))
    if module is not None and isinstance(before, nn.Conv2d) and isinstance(after, BATCH_NORMS):
        module.add_module(convolution, fuse_conv_bn_eval(before, after))
        module.add_module(norm, nn.Identity())


def empty_network(settings: Model) -> SacroiliitisNet:
    """The network without first weights, for a checkpoint to fill."""
    return build_network(settings.model_copy(update={"weights": "none"}))


def with_grey_stem(backbone: models.ResNet) -> models.ResNet:
    """Replace the first convolution by one over a single channel with the same output as for three equal channels."""
    three = backbone.conv1
    one = nn.Conv2d(1, three.out_channels, kernel_size=7, stride=2, padding=3, bias=False)
    with torch.no_grad():
        one.weight.copy_(three.weight.sum(dim=1, keepdim=True))
    backbone.conv1 = one
    return backbone


def _load_backbone(backbone: models.ResNet, settings: Model) -> None:
    """Load `settings.weights` into a torchvision ResNet, strictly but for the classifier that the head replaces."""
    state = _read_weights(settings)
    kept = {name: value for name, value in state.items() if not name.startswith("fc.")}
    wanted = {name: value.shape for name, value in backbone.state_dict().items() if not name.startswith("fc.")}
    wrong = [n for n in wanted.keys() | kept.keys() if n not in kept or n not in wanted or kept[n].shape != wanted[n]]
    # num_batches_tracked is absent in weights older than PyTorch 0.4.1 and has no effect here.
    wrong = [name for name in wrong if not name.endswith("num_batches_tracked")]
    if wrong:
        raise UserError(
            f"model.weights = {settings.weights!r} does not fit model.architecture = {settings.architecture!r}: {len(wrong)} of "
            f"{len(wanted)} tensors are missing, unknown or of another shape, such as {sorted(wrong)[0]}; give weights of that architecture"
        )
    backbone.load_state_dict(kept, strict=False)


def _read_weights(settings: Model) -> dict[str, Tensor]:
    known = models.get_model_weights(settings.architecture)
    if settings.weights in known.__members__:
        try:
            state: dict[str, Tensor] = known[settings.weights].get_state_dict(
                progress=False, check_hash=True, weights_only=True
            )
        except (URLError, OSError) as error:
            raise UserError(
                f"model.weights = {settings.weights!r} could not be downloaded ({error}); "
                'give the path of a state_dict file, or "none" to start from random weights'
            ) from None
        return state
    check_weights_exist(settings)  # here as well: a node may not see a file that another sees
    try:
        loaded = torch.load(settings.weights, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch.load raises whatever its zip reader and its unpickler raise; all mean the same to the user.
        raise UserError(
            f"model.weights = {settings.weights!r} is not a state_dict file that PyTorch reads safely ({error})"
        ) from None
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise UserError(
            f"model.weights = {settings.weights!r} holds no state_dict (names and tensors); save one with torch.save(state_dict)"
        )
    return loaded
