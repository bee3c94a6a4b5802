"""The recipes, the training loop and its state, on a handful of images."""

from dataclasses import replace

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from common.training import RECIPES, evaluate, random_affine
from studies.study import fit

pytestmark = pytest.mark.slow


SHORT = replace(RECIPES["autoencoder"], epochs=3, batch_size=32)


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("name", RECIPES)
def test_training_lowers_the_loss_and_leaves_a_history(few_digits, name):
    recipe = replace(RECIPES[name], epochs=4, batch_size=16)
    model, history = fit(recipe, few_digits)
    assert not model.training
    assert (len(history["train"]), len(history["test"])) == (4, 5)
    assert history["test"][-1]["loss"] < history["test"][0]["loss"]
    test = (few_digits.x_clean_test, few_digits.labels_test)
    assert evaluate(model, recipe.loss, *test) == history["test"][-1]


def test_an_evaluation_has_samples_of_its_own(few_digits):
    vae = RECIPES["vae2"].model(2)
    test = (RECIPES["vae2"].loss, few_digits.x_clean_test, few_digits.labels_test)
    state = torch.get_rng_state()
    assert evaluate(vae, *test) == evaluate(vae, *test)
    assert torch.equal(torch.get_rng_state(), state), "a training run would go on with others"


def test_two_recipes_differ_from_others_in_one_setting():
    small, large = RECIPES["vae2"], RECIPES["vae16"]
    assert (small.latent_size, large.latent_size) == (2, 16)
    assert replace(large, latent_size=2, command=small.command) == small
    usual, augmented = RECIPES["classifier"], RECIPES["classifier_augmented"]
    assert replace(augmented, augment=0.0, command=usual.command) == usual


def test_the_same_seed_gives_the_same_weights(few_digits):
    (a, history), (b, history_of_b), (other, _) = (fit(SHORT, few_digits, s) for s in (5, 5, 6))
    assert torch.equal(weights(a), weights(b))
    assert history == history_of_b
    assert not torch.equal(weights(a), weights(other))


def test_every_epoch_takes_every_image_once_with_its_own_label_in_an_order_of_the_seed(few_digits):
    seen = []

    def loss(model, x, labels):
        if model.training:
            seen.append((x, labels))
        return {"loss": model(x).mean()}

    recipe = replace(RECIPES["classifier"], loss=loss, epochs=2, batch_size=40)
    for seed in (0, 1):
        fit(recipe, few_digits, seed)
    assert [len(labels) for _, labels in seen] == [40, 40, 16] * 4
    orders = []
    for first in (0, 3, 6, 9):
        images, labels = (torch.cat(part) for part in zip(*seen[first : first + 3], strict=True))
        nearest = torch.cdist(images.flatten(1), few_digits.x_clean_train.flatten(1)).argmin(dim=1)
        assert torch.equal(labels, few_digits.labels_train[nearest])
        orders.append(nearest.tolist())
        assert sorted(orders[-1]) == list(range(96))
    assert len(set(map(tuple, orders))) == 4, "two epochs or two seeds have the same order"


def test_the_weights_depend_on_the_training_images_and_not_on_the_test_images(few_digits):
    x, x_train = few_digits.x_clean_test, few_digits.x_clean_train
    other_test = replace(few_digits, x_clean_test=1 - x)
    one_other = replace(few_digits, x_clean_train=torch.cat([x_train[:-1], x[:1]]))
    usual, same, other = (
        weights(fit(SHORT, data)[0]) for data in (few_digits, other_test, one_other)
    )
    assert torch.equal(same, usual)
    assert not torch.equal(other, usual)


def test_the_optimizer_follows_the_recipe(few_digits):
    recipe = replace(RECIPES["autoencoder"], epochs=5, batch_size=48)
    groups = []

    def note(optimizer, args, kwargs):
        (group,) = optimizer.param_groups
        assert len(group["params"]) == len(list(recipe.model(None).parameters()))
        groups.append((group["lr"], *group["betas"], group["weight_decay"]))

    hook = register_optimizer_step_pre_hook(note)
    fit(recipe, few_digits)
    hook.remove()
    lr, beta1, beta2, weight_decay = zip(*groups, strict=True)
    assert (len(lr), set(beta2), set(weight_decay)) == (10, {0.99}, {recipe.weight_decay})
    # One cycle: up over the first 30 % of the steps, from a 25th, and down to almost nothing.
    assert (lr[0], lr[2]) == pytest.approx((recipe.lr / 25, recipe.lr))
    assert list(lr[:3]) == sorted(lr[:3])
    assert list(lr[2:]) == sorted(lr[2:], reverse=True)
    assert lr[9] < recipe.lr / 1e4
    assert (beta1[0], beta1[2], beta1[9]) == pytest.approx((0.95, 0.85, 0.95))


def test_augmentation_sees_every_training_batch_and_no_evaluation(few_digits, monkeypatch):
    seen = {True: [], False: []}  # by training or evaluation

    def loss(model, x, labels):
        seen[model.training].append(x)
        return {"loss": model(x).mean()}

    monkeypatch.setattr("common.training.random_affine", lambda x, strength: x + strength)
    recipe = replace(RECIPES["classifier"], loss=loss, augment=0.3, epochs=2, batch_size=40)
    fit(recipe, few_digits)
    assert all(x.min() == 0.3 for x in seen[True])
    assert torch.equal(torch.cat(seen[False]), few_digits.x_clean_test.repeat(3, 1, 1, 1))


def test_every_image_weighs_the_same_in_a_loss(few_digits):
    def mean_pixel(model, x, labels):
        return {"loss": x.mean() + 0 * sum(p.sum() for p in model.parameters())}

    recipe = replace(RECIPES["autoencoder"], loss=mean_pixel, batch_size=95, epochs=1)
    x = torch.rand(501, 1, 32, 32) * torch.linspace(0, 1, 501).view(-1, 1, 1, 1)  # 500 and 1
    data = replace(few_digits, x_clean_test=x, labels_test=torch.zeros(501, dtype=torch.long))
    _, history = fit(recipe, data)  # of 96 images: the last batch has one
    for part, images in (("train", data.x_clean_train), ("test", x)):
        mean = images.mean().item()
        assert history[part][-1]["loss"] == pytest.approx(mean, rel=1e-5), part


def test_augmentation_rotates_scales_and_shifts_each_image_by_its_own_amounts():
    torch.manual_seed(0)
    x = torch.zeros(1000, 1, 32, 32)
    x[:, :, 8:24, 14:18] = 1  # an upright bar
    changed = random_affine(x)
    assert changed.shape == x.shape
    assert 0 <= changed.min() <= changed.max() <= 1
    place = torch.arange(32) - 15.5
    mass = changed.sum(dim=(1, 2, 3))
    row, column = (changed.sum(dim=(1, d)) @ place / mass for d in (3, 2))
    dy, dx = place - row[:, None], place - column[:, None]
    xx = (changed[:, 0] * dx[:, None, :] ** 2).sum(dim=(1, 2))
    yy = (changed[:, 0] * dy[:, :, None] ** 2).sum(dim=(1, 2))
    xy = (changed[:, 0] * dx[:, None, :] * dy[:, :, None]).sum(dim=(1, 2))
    angle = torch.rad2deg(0.5 * torch.atan2(2 * xy, yy - xx))
    scale = (mass / mass.mean()).sqrt()
    named = {"down": (row, 2.2), "right": (column, 2.2), "angle": (angle, 10)}
    for name, (found, largest) in (named | {"scale": (scale - 1, 0.1)}).items():
        assert found.mean().abs() < 0.1 * largest, name
        assert found.abs().max() < 1.1 * largest + 0.05, name
        assert found.std() == pytest.approx(largest / 3**0.5, rel=0.15), name
    assert torch.corrcoef(torch.stack([row, column, angle, scale])).tril(-1).abs().max() < 0.1
    x = 0.4 + 0.2 * torch.rand(500, 1, 32, 32)
    assert random_affine(x)[..., 6:-6, 6:-6].var() > 0.6 * x.var()  # bilinear: 0.45
    assert (random_affine(x)[..., 0, 0] < 0.1).any()  # outside is black
