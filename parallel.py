"""Several processes for one script, as torchrun starts them; one process alone notices nothing.

Every process runs the whole script and holds the whole model. Each trains on its share of every
batch and denoises its share of the images; the first alone prints and writes.
"""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler, Sampler
from tqdm import tqdm

T = TypeVar("T")


def rank() -> int:
    """The number of this process, 0 for the first or only one."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """The number of this process among those on the same machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def processes() -> int:
    """How many processes share the work."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join(device: torch.device) -> torch.device:
    """Meet the other processes, if there are any; from now on only the first one prints.

    Returns:
        The device of this process: where there are GPUs, one of its own.
    """
    if processes() > 1 and not dist.is_initialized():
        if rank():
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, it is to stay open
        if device.type == "cuda":
            device = torch.device("cuda", local_rank())
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def leave() -> None:
    """Part from the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
    """What the processes do one after the other."""
    for _ in range(rank()):
        meet()
    try:
        yield
    finally:
        for _ in range(rank(), processes()):
            meet()


def meet() -> None:
    """Wait until every process is here."""
    if processes() > 1:
        dist.barrier()


def say(message: str) -> None:
    """Print a line about the progress on standard error, in the first process only."""
    if rank() == 0:
        print(message, file=sys.stderr)


def progress(items: Iterable[T], title: str) -> tqdm:
    """`items`, and while they are gone through for more than two seconds, a bar with the time left.

    There is none where standard error is a file, nor in any process but the first.
    """
    return tqdm(items, desc=title, leave=False, delay=2, disable=rank() > 0 or None)


class Share(Sampler[int]):
    """This process's indices of those that `sampler` gives: every n-th of n processes.

    So a batch of one process is made of the batches of all processes together, each n times
    smaller: the same images take part in the same step of the training. With `even`, the last few
    are repeated so that each process has as many, which a training needs.
    """

    def __init__(self, sampler: Sampler[int], even: bool):
        self.sampler, self.even = sampler, even

    def __iter__(self) -> Iterator[int]:
        if processes() == 1:
            return iter(self.sampler)
        order = list(self.sampler)
        if self.even:
            return (order[place] for place in DistributedSampler(order, shuffle=False))
        return iter(order[rank() :: processes()])

    def __len__(self) -> int:
        if self.even:
            return -(-len(self.sampler) // processes())
        return len(range(rank(), len(self.sampler), processes()))


def share(x: Tensor) -> Tensor:
    """This process's part of the rows of `x`; `gather` puts the parts together again."""
    return x.tensor_split(processes())[rank()]


def every(value: T) -> list[T]:
    """The `value` of each process, in every process."""
    values = [value] * processes()
    if processes() > 1:
        dist.all_gather_object(values, value)
    return values


def gather(x: Tensor, dim: int = 0) -> Tensor:
    """The `x` of all processes on the CPU, one after the other along `dim`, in every process."""
    return torch.cat(every(x.cpu()), dim=dim)


def total(values: dict[str, float]) -> dict[str, float]:
    """The sum over all processes of each of `values`, in every process."""
    parts = every(values)
    return {name: sum(part[name] for part in parts) for name in values}


def replicated(model: nn.Module) -> nn.Module:
    """`model`, its gradients averaged over the processes at every step."""
    if processes() == 1:
        return model
    return DistributedDataParallel(model)
