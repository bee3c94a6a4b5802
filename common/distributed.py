"""One training shared by the processes that torchrun launches.

Every process holds the whole model and trains on its part of each batch. The processes share
nothing else: after the training the first one continues alone.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

T = TypeVar("T")


def torchrun_variable(name: str, default: int) -> int:
    """Return an environment variable of torchrun, or `default` where torchrun is not used."""
    return int(os.environ[name]) if dist.is_torchelastic_launched() else default


def rank() -> int:
    """Return the number of this process, 0 for the first or only one."""
    return torchrun_variable("RANK", 0)


def local_rank() -> int:
    """Return the number of this process among those on the same machine."""
    return torchrun_variable("LOCAL_RANK", 0)


def local_world_size() -> int:
    """Return the number of processes on this machine."""
    return torchrun_variable("LOCAL_WORLD_SIZE", 1)


def world_size() -> int:
    """Return the number of processes."""
    return torchrun_variable("WORLD_SIZE", 1)


def setup_distributed(device: torch.device) -> torch.device:
    """Connect to the other processes and return the device of this one."""
    if world_size() > 1:
        if device.type == "cuda":
            device = torch.device("cuda", local_rank())
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def cleanup() -> None:
    """Disconnect from the other processes and end all but the first."""
    if dist.is_initialized():
        dist.destroy_process_group()
    if rank() > 0:
        sys.exit()
    os.environ.pop("TORCHELASTIC_RUN_ID", None)  # the first process is the only one from here on


def all_gather(value: T) -> list[T]:
    """Return the `value` of every process, in the order of their ranks."""
    values = [value] * world_size()
    if dist.is_initialized():
        dist.all_gather_object(values, value)
    return values


def wrap_ddp(model: nn.Module) -> nn.Module:
    """Wrap `model` so that its gradients are averaged over the processes."""
    return DistributedDataParallel(model) if dist.is_initialized() else model


def progress(items: Sequence[T], title: str) -> Iterator[T]:
    """Yield `items`; on a terminal, the first process shows a progress bar."""
    yield from tqdm(items, title, leave=False, delay=2, disable=rank() > 0 or None)


def log(message: str) -> None:
    """Print a message on standard error, in the first process only."""
    if rank() == 0:
        print(message, file=sys.stderr)
