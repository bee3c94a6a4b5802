"""Do sixteen latent units help, or is it the recipe of vae16?

    python -m studies.latent_size

trains the VAE with 16 latents by the recipe of vae2, and compares it with the committed vae2 and
vae16 on the test images: the error at the mean, and the first 1,000 images with noise after the
bottleneck and after the MAP estimate. The number of latents would not be the reason if the recipe
of vae2 left 16 latents as far behind as two. Writes latent_size.json beside this file. About 15
minutes on one core.
"""

from dataclasses import replace

import torch.nn.functional as F

from common.dataset import load_mnist
from common.metrics import denoise, predict, psnr
from common.pretrained import load_model
from common.script import print_table, run_script
from common.training import RECIPES, evaluate, fit
from models import vae_loss
from studies.study import make_parser, save_results

IMAGES = 1000


def main() -> None:
    data = load_mnist(make_parser(__doc__).parse_args().data_dir)
    recipe = replace(RECIPES["vae2"], model=RECIPES["vae16"].model)
    models = {
        "2 latents, recipe of vae2": load_model("vae2"),
        "16 latents, recipe of vae2": fit(recipe, data).model,
        "16 latents, recipe of vae16": load_model("vae16"),
    }
    x, labels = data.x_clean_test, data.labels_test
    found, rows = {}, []
    for name, vae in models.items():
        terms = evaluate(vae, vae_loss, x, labels)
        x_noisy = data.x_noisy_test[:IMAGES]
        estimate, _losses = denoise(vae, x_noisy, data.noise**2)
        found[name] = {
            "mse": F.mse_loss(predict(vae.reconstruct, x), x).item(),
            "kl": terms["kl"],
            "loss": terms["loss"],
            "bottleneck": psnr(predict(vae.reconstruct, x_noisy), x[:IMAGES]),
            "MAP": psnr(estimate, x[:IMAGES]),
        }
        mse, *others = found[name].values()
        rows.append((name, f"{mse:.5f}", *(f"{value:.2f}" for value in others)))
    print_table(("model", "MSE", "KL", "loss", "bottleneck (dB)", "MAP (dB)"), rows)
    save_results(__file__, found)


if __name__ == "__main__":
    run_script(main)
