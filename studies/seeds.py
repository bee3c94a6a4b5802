"""How much do the results depend on the seed?

    python -m studies.seeds

trains the autoencoder, the classifier and both VAEs by their recipes with seeds 1 and 2 where
runs/seed-1 and runs/seed-2 do not hold them, measures them and the committed models, whose seed is
0, on all test images, and writes seeds.json beside this file. The classifier that reads denoised
and decoded images is the committed one. The models can also be trained beforehand, for instance by
`python ex7_vae.py --seed 1 --out runs/seed-1`.
"""

import statistics

import torch.nn.functional as F

from common.dataset import Dataset
from common.latent import nearest_label, posterior_moments
from common.metrics import denoise, image_metrics, predict
from common.pretrained import load_model, load_or_train
from common.script import fixed, format_table, make_base_parser, read_options, run_script
from common.training import evaluate
from models import vae_loss
from studies.study import run_all, save_results, seed_folder

SEEDS, NAMES = (0, 1, 2), ("autoencoder", "classifier", "vae2", "vae16")
DIGITS = {"mse": 5, "dB": 2, "%": 2, "nats": 2}


def measure(data: Dataset, seed: int) -> dict[str, float | list[float]]:
    """Return the results of one seed by what they are, and the VAEs' moments."""
    x, labels = data.x_clean_test, data.labels_test
    models = {n: load_or_train(n, data, seed_folder(seed), seed=seed)[0] for n in NAMES}
    classifier = load_model("classifier").to(x.device)
    found: dict[str, float | list[float]] = {}
    for name in ("autoencoder", "vae2", "vae16"):
        r = predict(models[name].reconstruct, x)
        found[f"{name}, mse"] = F.mse_loss(r, x).item()
    for name in ("autoencoder", "vae2"):
        h_train, h = (predict(models[name].encode, i) for i in (data.x_clean_train, x))
        right = nearest_label(h_train, data.labels_train, h) == labels
        found[f"{name}, nearest neighbor, %"] = 100 * right.float().mean().item()
        inward = predict(models[name].encode, data.x_noisy_test).norm(dim=1) < h.norm(dim=1)
        for key, of_image in (("nearest neighbor", right), ("moved inward by noise", inward)):
            shares = [of_image[labels == digit].float().mean().item() for digit in range(10)]
            found[f"{name}, {key}, share of each digit"] = shares
    found["vae2, kl, nats"] = evaluate(models["vae2"], vae_loss, x, labels)["kl"]
    right = predict(models["classifier"], x).argmax(dim=1) == labels
    found["classifier, accuracy, %"] = 100 * right.float().mean().item()
    images = {
        "bottleneck": predict(models["vae16"].reconstruct, data.x_noisy_test),
        "MAP": denoise(models["vae16"], data.x_noisy_test, data.noise**2),
    }
    for name, metrics in image_metrics(images, x, labels, classifier).items():
        found[f"vae16, {name}, dB"] = metrics["psnr"]
        found[f"vae16, {name}, right digit, %"] = metrics["right_digit"]
    for name in ("vae2", "vae16"):
        moments = posterior_moments(models[name], x)
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
    options = read_options(make_base_parser(__doc__), None)
    results = run_all(measure, options, [(seed,) for seed in SEEDS])
    header = ("result", "mean", *(f"seed {seed}" for seed in SEEDS))
    print(format_table(header, summarize(results)), end="\n\n")
    save_results(__file__, results)


if __name__ == "__main__":
    run_script(main)
