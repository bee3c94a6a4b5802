"""The rules that exercises 1 and 4 set, held against every module and operation."""

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from models import Autoencoder, Classifier, Encoder


def traced_steps(network: nn.Module, x: Tensor) -> list[tuple[nn.Module, torch.Size, torch.Size]]:
    """Every operation of a forward pass, in order: the module, and its input and output shape."""
    trace = fx.symbolic_trace(network)
    ShapeProp(trace).propagate(x)
    steps = []
    for node in trace.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        assert node.op == "call_module", f"{node} is an operation outside the modules"
        (source,) = node.args
        shapes = [n.meta["tensor_meta"].shape for n in (source, node)]
        steps.append((trace.get_submodule(node.target), *shapes))
    return steps


def assert_half_obeys(network, x, convolution, resizing, shrinks):
    """One half of the autoencoder: blocks of convolution, ReLU and resizing, and nothing else."""
    steps = traced_steps(network, x)
    assert len(steps) % 3 == 0
    assert {id(step[0]) for step in steps} == {
        id(module) for module in network.modules() if not list(module.children())
    }, "a module is not used, or there is one too many"
    for first in range(0, len(steps), 3):
        (conv, _, _), (activation, _, _), (resize, before, after) = steps[first : first + 3]
        last = first + 3 == len(steps)
        assert type(conv) is convolution
        assert conv.kernel_size == (3, 3)
        assert conv.padding == (1, 1)
        assert (conv.stride, conv.dilation, conv.groups) == ((1, 1), (1, 1), 1)
        assert conv.out_channels == (1 if last else 16)
        assert type(activation) is nn.ReLU
        assert type(resize) is resizing
        if resizing is nn.Upsample:
            assert resize.scale_factor is not None
        big, small = (before, after) if shrinks else (after, before)
        factors = {b / s for b, s in zip(big[2:], small[2:], strict=True)}
        assert factors in ({2}, {1, 2}), "an image's size changes by a factor of 2"


def assert_obeys(autoencoder):
    """Every rule of exercise 1."""
    x = torch.rand(3, 1, 32, 32)
    assert type(autoencoder.encoder) is not type(autoencoder.decoder)
    assert_half_obeys(autoencoder.encoder, x, nn.Conv2d, nn.MaxPool2d, shrinks=True)
    h = autoencoder.encoder(x)
    assert h.shape == (3, 1, 2, 1)
    assert_half_obeys(autoencoder.decoder, h, nn.ConvTranspose2d, nn.Upsample, shrinks=False)
    r, h_again = autoencoder(x)
    assert r.shape == x.shape
    torch.testing.assert_close(h_again, h)
    torch.testing.assert_close(r, autoencoder.decoder(h))


def test_the_autoencoder_obeys_every_rule():
    assert_obeys(Autoencoder())


def test_the_classifier_is_the_encoder_with_its_last_block_replaced_by_a_dense_layer():
    steps = [module for module, *_ in traced_steps(Classifier(), torch.rand(3, 1, 32, 32))]
    encoder = [module for module, *_ in traced_steps(Encoder(), torch.rand(3, 1, 32, 32))]
    assert list(map(repr, steps[:-2])) == list(map(repr, encoder[:-3]))
    assert isinstance(steps[-2], nn.Flatten)
    assert isinstance(steps[-1], nn.Linear)
    assert steps[-1].out_features == 10
