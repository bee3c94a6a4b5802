"""Exercise 6: does the autoencoder remove noise that it was not trained on?

Writes ex6_denoising, ex6_latent and ex6.json.
"""

from common.dataset import load_data
from common.latent import neighbors
from common.metrics import bottleneck_metrics, predict, print_image_metrics
from common.plotting import image_rows, moved_figure, save_figure
from common.pretrained import load_or_train
from common.script import make_parser, read_options, run_script, write_json


def main(argv: list[str] | None = None) -> None:
    options = read_options(make_parser(__doc__, noise=True), argv)
    data = load_data(options)
    folder, figures = options.checkpoint_dir, options.figures_dir
    autoencoder, _ = load_or_train("autoencoder", data, folder)
    classifier, _ = load_or_train("classifier", data, folder)

    # (a) Noisy input, output and clean image, one digit per column.
    r_example = predict(autoencoder.reconstruct, data.x_noisy_example)
    figure = image_rows(
        {"noisy": data.x_noisy_example, "output": r_example, "clean": data.x_clean_example}
    )
    save_figure(figure, figures / "ex6_denoising")

    # The error, and how often the classifier of exercise 4 reads the right digit.
    numbers = bottleneck_metrics(autoencoder, data, classifier)
    print_image_metrics(numbers)

    # Where noise moves the latents of the test images: among clean ones of the same digit?
    h = predict(autoencoder.encode, data.x_clean_test)
    h_noisy = predict(autoencoder.encode, data.x_noisy_test)
    figure = moved_figure({"clean": h, "noisy": h_noisy}, data.labels_test)
    save_figure(figure, figures / "ex6_latent")
    labels = data.labels_test
    alike = (labels[neighbors(h, h_noisy, count=10)] == labels[:, None]).float().mean().item()
    print(f"clean neighbors of a noisy latent with the same digit: {100 * alike:.2f} %\n")
    found = {"noise": data.noise, **numbers, "same_label_share_of_10_clean_neighbors": alike}
    write_json(figures / "ex6.json", found)


if __name__ == "__main__":
    run_script(main)
