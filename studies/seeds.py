"""How far do the results depend on the seed?

    python -m studies.seeds

trains the autoencoder, the classifier and both VAEs by their recipes with seeds 1 and 2 where
checkpoints/seed-1 and checkpoints/seed-2 do not hold them, measures them and the committed models,
whose seed is 0, on all test images, and writes seeds.json beside this file. The classifier that
reads denoised and decoded images is the committed one. The models can also be trained beforehand,
for instance by `python ex7_vae.py --seed 1`: two at a time, on one thread each, they take two hours
on two cores.
"""

import statistics
from pathlib import Path

import torch
import torch.nn.functional as F

from common.dataset import Dataset, load_mnist
from common.denoising import denoise, image_metrics
from common.errors import run_script
from common.files import CHECKPOINT_DIR, write_json
from common.grid import decode_grid
from common.metrics import confident_digits, nearest_label, predict
from common.options import data_parser
from common.pretrained import load_model, load_or_train
from common.tables import fixed, print_table
from common.training import evaluate
from models import vae_loss

SEEDS = (0, 1, 2)
DIGITS = {"mse": 5, "dB": 2, "%": 2, "nats": 2, "grid": 1}


def measure(data: Dataset, seed: int) -> dict[str, float | list[float]]:
    """Return the results of one seed by what they are, and the VAEs' moments."""
    cpu, x, labels = torch.device("cpu"), data.x_clean_test, data.labels_test
    folder = CHECKPOINT_DIR / f"seed-{seed}" if seed else CHECKPOINT_DIR
    names, classifier = ("autoencoder", "classifier", "vae2", "vae16"), load_model("classifier")
    trained = {name: load_or_train(name, data, folder, cpu, seed=seed) for name in names}
    models = {name: model for name, (model, _history) in trained.items()}
    found: dict[str, float | list[float]] = {}
    for name in ("autoencoder", "vae2", "vae16"):
        r = predict(models[name].reconstruct, x, cpu)
        found[f"{name}, mse"] = F.mse_loss(r, x).item()
    for name in ("autoencoder", "vae2"):
        h_train, h = (predict(models[name].encode, i, cpu) for i in (data.x_clean_train, x))
        right = nearest_label(h_train, data.labels_train, h) == labels
        found[f"{name}, nearest neighbor, %"] = 100 * right.float().mean().item()
        images = decode_grid(models[name], h, labels, cpu).images
        confident, digit = confident_digits(classifier, images, cpu)
        found[f"{name}, images of the grid that look like a digit, %"] = (
            100 * confident.float().mean().item()
        )
        found[f"{name}, different digits on the grid"] = len(digit[confident].unique())
    found["vae2, kl, nats"] = evaluate(models["vae2"], vae_loss, x, labels, cpu)["kl"]
    right = predict(models["classifier"], x, cpu).argmax(dim=1) == labels
    found["classifier, accuracy, %"] = 100 * right.float().mean().item()
    for name, images in (
        ("bottleneck", predict(models["vae16"].reconstruct, data.x_noisy_test, cpu)),
        ("MAP", denoise(models["vae16"], data.x_noisy_test, data.noise**2, cpu)[0]),
    ):
        metrics = image_metrics(images, x, labels, classifier, cpu)
        found[f"vae16, {name}, dB"] = metrics["psnr"]
        found[f"vae16, {name}, right digit, %"] = metrics["right_digit"]
    for name in ("vae2", "vae16"):
        moments = trained[name][1]["before_standardization"]
        found |= {f"{name}, {moment} of each unit": moments[moment] for moment in moments}
    return found


def summarize(results: list[dict[str, float | list[float]]]) -> list[tuple[str, ...]]:
    """Return the mean over the seeds and the value of each, one row for each result."""
    rows = []
    for name, first in results[0].items():
        if isinstance(first, list):
            continue
        values = [result[name] for result in results]
        digits = DIGITS[name.split()[-1]]
        rows.append((name, *fixed([statistics.mean(values), *values], digits)))
    return rows


def main() -> None:
    data = load_mnist(data_parser(__doc__).parse_args().data_dir)
    results = [measure(data, seed) for seed in SEEDS]
    header = ("result", "mean", *(f"seed {seed}" for seed in SEEDS))
    print_table(header, summarize(results))
    for name in ("vae2", "vae16"):
        moments = [m for result in results for m in result[f"{name}, second_moment of each unit"]]
        print(
            f"{name}, second moments after the training: {min(moments):.2f} to {max(moments):.2f}"
        )
    write_json(Path(__file__).resolve().with_suffix(".json"), results)


if __name__ == "__main__":
    run_script(main)
