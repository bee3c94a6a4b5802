"""Exercise 6: does the autoencoder remove noise that it was not trained on?

Writes ex6_denoising, ex6_latent and ex6.json.
"""

from common.dataset import NOISE, load_data
from common.latent import neighbors
from common.metrics import bottleneck_metrics, image_metrics_table, predict
from common.plotting import image_rows, moved_figure, write_results
from common.pretrained import load_model
from common.script import make_parser, read_options, run_script


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__, noise=NOISE), argv)
    data = load_data(options)
    autoencoder = load_model("autoencoder", options.out, options.device, data.name)
    classifier = load_model("classifier", options.out, options.device, data.name)

    # (a) Noisy input, output and clean image, one digit per column.
    x_noisy, r = data.x_noisy_example, autoencoder.reconstruct(data.x_noisy_example)
    rows = {"noisy": x_noisy, "output": r, "clean": data.x_clean_example}
    figures = {"ex6_denoising": image_rows(rows)}

    # The error, and how often the classifier of exercise 4 reads the right digit.
    numbers = bottleneck_metrics(autoencoder, data, classifier)

    # Where noise moves the latents of the test images: among clean ones of the same digit?
    h = predict(autoencoder.encode, data.x_clean_test)
    h_noisy = predict(autoencoder.encode, data.x_noisy_test)
    figures["ex6_latent"] = moved_figure({"clean": h, "noisy": h_noisy}, data.labels_test)
    near = data.labels_test[neighbors(h, h_noisy, count=10)]
    alike = (near == data.labels_test[:, None]).float().mean().item()
    found = {"noise": data.noise, **numbers, "same_label_share_of_10_clean_neighbors": alike}
    parts = {"ten examples": numbers["example"], "all test images": numbers["test"]}
    tables = {
        "Exercise 6: the output, and how often the classifier of exercise 4 is correct": (
            image_metrics_table(parts)
        ),
        "Exercise 6: share of the 10 clean latents nearest to a noisy one with its digit": (
            f"{100 * alike:.1f} %"
        ),
    }
    write_results(options.out, figures, {"ex6": found}, tables)


if __name__ == "__main__":
    run_script(main)
