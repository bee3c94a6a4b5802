"""The recipes and the training loop, on a handful of images."""

from dataclasses import replace

import pytest
import torch
from conftest import weights
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from common.pretrained import check_training
from common.training import RECIPES, evaluate, random_affine
from studies.study import fit

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", RECIPES)
def test_training_lowers_the_loss_and_leaves_a_history(few_digits, name):
    recipe = replace(RECIPES[name], epochs=4, batch_size=16)
    model, history = fit(recipe, few_digits)
    assert (len(history["train"]), len(history["test"])) == (4, 5)
    assert history["test"][-1]["loss"] < history["test"][0]["loss"]
    test = (few_digits.x_clean_test, few_digits.labels_test)
    state = torch.manual_seed(9).get_state()
    assert evaluate(model, recipe.loss, *test) == history["test"][-1]
    assert torch.equal(torch.get_rng_state(), state), "a training run would go on with others"


def test_two_recipes_differ_from_others_in_one_setting():
    small, large = RECIPES["vae2"], RECIPES["vae16"]
    assert (small.latent_size, large.latent_size) == (2, 16)
    assert replace(large, latent_size=2, command=small.command) == small
    usual, augmented = RECIPES["classifier"], RECIPES["classifier_augmented"]
    assert replace(augmented, augment=0.0, command=usual.command) == usual


def test_the_weights_depend_on_seed_and_training_images_and_not_on_test_images(few_digits):
    x, x_train = few_digits.x_clean_test, few_digits.x_clean_train
    other_test = replace(few_digits, x_clean_test=1 - x)
    one_other = replace(few_digits, x_clean_train=torch.cat([x_train[:-1], x[:1]]))
    recipe = replace(RECIPES["autoencoder"], epochs=3, batch_size=32)
    usual, same, of_others, of_seed_6 = (
        weights(fit(recipe, data, seed)[0])
        for data, seed in ((few_digits, 5), (other_test, 5), (one_other, 5), (few_digits, 6))
    )
    assert torch.equal(same, usual), "depend on the test images"
    assert not torch.equal(of_others, usual), "do not depend on every training image"
    assert not torch.equal(of_seed_6, usual), "do not depend on the seed"


def test_the_optimizer_follows_the_recipe(few_digits):
    linear = {"model": lambda _: nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))}
    recipe = replace(RECIPES["classifier"], **linear, init=lambda *_: None, epochs=5, batch_size=48)
    groups = []

    def note(optimizer, args, kwargs):
        (group,) = optimizer.param_groups
        groups.append((group["lr"], *group["betas"], group["weight_decay"], len(group["params"])))

    hook = register_optimizer_step_pre_hook(note)
    fit(recipe, few_digits)
    fit(replace(recipe, epochs=6, batch_size=1), few_digits)
    hook.remove()
    assert max(groups)[0] == pytest.approx(recipe.lr), "576 steps reach the peak"
    lr, beta1, *others = zip(*groups[:10], strict=True)
    assert list(map(set, others)) == [{0.99}, {recipe.weight_decay}, {2}]
    # One cycle: up over the first 30 % of the steps, from a 25th, and down to almost nothing.
    peak = recipe.lr * 10 / 500
    assert (lr[0], lr[2]) == pytest.approx((peak / 25, peak))
    assert list(lr[2:]) == sorted(lr[2:], reverse=True)
    assert lr[9] < peak / 1e4
    assert (beta1[0], beta1[2], beta1[9]) == pytest.approx((0.95, 0.85, 0.95))


def test_a_quick_trial_of_the_autoencoder_does_not_collapse(digits):
    data = replace(digits, x_clean_train=digits.x_clean_train[:500])
    for seed in range(3):
        model, history = fit(replace(RECIPES["autoencoder"], epochs=3), data, seed)
        check_training("autoencoder", model, history, data.x_clean_test)


def record(data, seed=0, **changes):
    """Train on the mean pixel; return the batches of training, of evaluation, and the history."""
    batches = {True: [], False: []}  # by training or evaluation

    def loss(model, x, labels):
        batches[model.training].append((x, labels))
        return {"loss": x.mean() + 0 * model(x).sum()}

    recipe = replace(RECIPES["classifier"], loss=loss, epochs=2, batch_size=40, **changes)
    _, history = fit(recipe, data, seed)
    return batches[True], batches[False], history


def test_every_epoch_takes_every_image_once_with_its_own_label_in_an_order_of_the_seed(few_digits):
    orders = set()
    for seed in (0, 1):
        batches, *_ = record(few_digits, seed)
        assert [len(x) for x, _ in batches] == [40, 40, 16] * 2
        for epoch in (batches[:3], batches[3:]):
            x, labels = map(torch.cat, zip(*epoch, strict=True))
            nearest = torch.cdist(x.flatten(1), few_digits.x_clean_train.flatten(1)).argmin(dim=1)
            assert torch.equal(labels, few_digits.labels_train[nearest])
            assert sorted(nearest.tolist()) == list(range(96))
            orders.add(tuple(nearest.tolist()))
    assert len(orders) == 4, "two epochs or two seeds have the same order"


def test_augmentation_sees_every_training_batch_and_no_evaluation(few_digits, monkeypatch):
    monkeypatch.setattr("common.training.random_affine", lambda x, strength: x + strength)
    training, evaluation, _ = record(few_digits, augment=0.3)
    assert all(x.min() == 0.3 for x, _ in training)
    x, _ = map(torch.cat, zip(*evaluation, strict=True))
    assert torch.equal(x, few_digits.x_clean_test.repeat(3, 1, 1, 1))


def test_every_image_weighs_the_same_in_a_loss(few_digits):
    x = torch.rand(501, 1, 32, 32) * torch.linspace(0, 1, 501).view(-1, 1, 1, 1)  # 500 and 1
    data = replace(few_digits, x_clean_test=x, labels_test=torch.zeros(501, dtype=torch.long))
    *_, history = record(data)
    for part, images in (("train", data.x_clean_train), ("test", x)):
        mean = images.mean().item()
        assert history[part][-1]["loss"] == pytest.approx(mean, rel=1e-5), part


def test_augmentation_rotates_scales_and_shifts_each_image_by_its_own_amounts():
    torch.manual_seed(0)
    bars = torch.zeros(1000, 1, 32, 32)
    bars[:, :, 8:24, 14:18] = 1  # upright
    x, place = random_affine(bars)[:, 0], torch.arange(32) - 15.5
    assert 0 <= x.min() <= x.max() <= 1
    mass = x.sum(dim=(1, 2))
    row, column = (x.sum(dim=d) @ place / mass for d in (2, 1))
    dy, dx = (place - row[:, None])[:, :, None], (place - column[:, None])[:, None]
    xy, difference = ((x * y).sum(dim=(1, 2)) for y in (dx * dy, dy**2 - dx**2))
    angle = torch.rad2deg(0.5 * torch.atan2(2 * xy, difference))
    scale = (mass / mass.mean()).sqrt() - 1
    amounts = {"down": (row, 2.2), "right": (column, 2.2), "angle": (angle, 10)}
    for name, (found, largest) in (amounts | {"scale": (scale, 0.1)}).items():
        assert found.mean().abs() < 0.1 * largest, name
        assert found.abs().max() < 1.1 * largest + 0.05, name
        assert found.std() == pytest.approx(largest / 3**0.5, rel=0.15), name
    assert torch.corrcoef(torch.stack([row, column, angle, scale])).tril(-1).abs().max() < 0.1
    x = 0.4 + 0.2 * torch.rand(500, 1, 32, 32)
    assert random_affine(x)[..., 6:-6, 6:-6].var() > 0.6 * x.var()  # bilinear: 0.45
    assert (random_affine(x)[..., 0, 0] < 0.1).any()  # outside is black
