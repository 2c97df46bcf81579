"""Whether a Ray is there to be joined, asked with a time limit: Ray itself goes on trying for minutes."""

import socket

import grpc
from ray._private import services
from ray._private.grpc_utils import init_grpc_channel
from ray._private.ray_constants import GLOBAL_GRPC_OPTIONS

from sacro_ray.errors import UserError

PATIENCE_S = 10.0
"""For a connection to the head of a cluster."""


def refuse_unreachable(target: str) -> None:
    """Connect to the head of a cluster, and leave it again.

    Args:
        target: `auto`, HOST:PORT or ray://HOST:PORT.

    Raises:
        UserError: It is no address, no Ray is known on this machine (`auto`), or nothing there speaks as Ray does.
    """
    try:
        place = target.partition("://")[2] if "://" in target else services.canonicalize_bootstrap_address(target)
        host, _, port = str(place).rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE_S):
            pass  # refused at once, where the next would go on trying
        with init_grpc_channel(str(place), GLOBAL_GRPC_OPTIONS) as channel:
            grpc.channel_ready_future(channel).result(timeout=PATIENCE_S)
    except (OSError, ValueError) as error:
        raise no_ray(target, error) from None
    except grpc.FutureTimeoutError:
        raise no_ray(target, TimeoutError(f"what listens there says nothing that Ray says, for {PATIENCE_S:g} s")) from None


def no_ray(target: str, error: Exception) -> UserError:
    """No Ray answers at an address."""
    why = str(error).strip().splitlines() or [type(error).__name__]
    return UserError(
        f"no Ray at {target} ({why[0]}); start one there, or give --address local, auto or HOST:PORT of a running cluster "
        "(without --address, RAY_ADDRESS is taken where it is set)"
    )
