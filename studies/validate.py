"""Try a recipe on validation images: train on the first 50,000 training images, test on the rest.

    python -m studies.validate autoencoder --epochs 8 --batch-size 64 --seed 1

A hyperparameter chosen this way is chosen without the test images.
"""

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from common.dataset import Dataset, load_mnist
from common.latent import nearest_label, posterior_moments
from common.metrics import denoise, image_metrics, predict, psnr
from common.pretrained import load_model
from common.script import number, read_options, run_script
from common.training import RECIPES, evaluate, fit
from models import VAE, Autoencoder, Classifier, classifier_loss, vae_loss
from studies.study import make_parser, validation_split

DENOISED = 1000  # of the validation images, with noise


def straight_vae(latent_size: int) -> VAE:
    """Return a VAE with a decoder that does not warp its images."""
    model = VAE(latent_size)
    decoder = model.decoder
    decoder.forward = lambda z: decoder.image(decoder.features(z))
    return model


def count_dead_filters(model: Autoencoder, x: Tensor) -> int:
    """Return how many of the encoder's 64 hidden filters no image of `x` activates."""
    layers, ends = model.encoder.layers, (3, 6, 9, 12)  # after the poolings
    largest = [predict(lambda x, n=n: layers[:n](x).amax(dim=(2, 3)), x).amax(dim=0) for n in ends]
    return sum((values == 0).sum().item() for values in largest)


def measure(model: nn.Module, split: Dataset) -> dict[str, float]:
    """Return how good a model is on the test images of `split`."""
    x, labels = split.x_clean_test, split.labels_test
    if isinstance(model, Classifier):
        right = predict(model, x).argmax(dim=1) == labels
        accuracy = 100 * right.float().mean().item()
        return {"accuracy": accuracy, **evaluate(model, classifier_loss, x, labels)}
    h, h_train = predict(model.encode, x), predict(model.encode, split.x_clean_train)
    right = nearest_label(h_train, split.labels_train, h) == labels
    found = {
        "mse": F.mse_loss(predict(model.decode, h), x).item(),
        "knn_accuracy": 100 * right.float().mean().item(),
    }
    if isinstance(model, Autoencoder):
        images = {"output": predict(model.reconstruct, split.x_noisy_test)}
        classifier = load_model("classifier").to(x.device)
        output = image_metrics(images, x, labels, classifier)["output"]
        found |= {"bottleneck": output["psnr"], "bottleneck_read": output["right_digit"]}
        found["dead_filters"] = count_dead_filters(model, x)
    if isinstance(model, VAE):
        moments = posterior_moments(model, x)
        few, few_noisy = x[:DENOISED], split.x_noisy_test[:DENOISED]
        x_estimate = denoise(model, few_noisy, split.noise**2)
        found |= {
            "bottleneck": psnr(predict(model.reconstruct, few_noisy), few),
            "MAP": psnr(x_estimate, few),
            "kl": evaluate(model, vae_loss, x, labels)["kl"],
            "largest_mean": max(map(abs, moments["mean"])),
            "smallest_second_moment": min(moments["second_moment"]),
            "largest_second_moment": max(moments["second_moment"]),
        }
    return found


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=number(int, 1))
    parser.add_argument("--batch-size", type=number(int, 1))
    parser.add_argument("--lr", type=number(float))
    parser.add_argument("--weight-decay", type=float)
    parser.add_argument("--augment", type=float, metavar="STRENGTH", help="of random_affine")
    parser.add_argument("--straight", action="store_true", help="vae16 without displacement")
    options = read_options(parser, None)
    names = ("epochs", "batch_size", "lr", "weight_decay", "augment")
    changes = {name: v for name in names if (v := getattr(options, name)) is not None}
    if options.straight:
        changes["model"] = straight_vae
    split = validation_split(load_mnist(options.data_dir, device=options.device))
    model = fit(replace(RECIPES[options.name], **changes), split, options.seed)[0]
    print(", ".join(f"{name} {value:.5g}" for name, value in measure(model, split).items()))


if __name__ == "__main__":
    run_script(main)
