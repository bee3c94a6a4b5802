"""Exercises 1 to 8 in order, in one process: all figures and numbers.

Options are passed to every exercise. With --out, models that the folder lacks are trained.
"""

import sys
from importlib import import_module

from common.dataset import load_data
from common.script import make_parser, read_options, run_script

EXERCISES = (
    *("ex1_autoencoder", "ex2_latent", "ex3_knn", "ex4_classifier", "ex4_classifier --augment"),
    *("ex5_generate", "ex6_denoise", "ex7_vae", "ex8_map_denoise"),
)


def main(argv: list[str] | None = None) -> None:
    given = sys.argv[1:] if argv is None else argv
    options = read_options(make_parser(__doc__), given)
    load_data(options)  # looks for MNIST once; options.dataset says what was found
    for exercise in EXERCISES:
        name, *own = exercise.split()
        module = import_module(name)
        title = (module.__doc__ or name).splitlines()[0]
        print("\n##", title, *own, end="\n\n", flush=True)
        module.main([*given, f"--dataset={options.dataset}", *own])


if __name__ == "__main__":
    run_script(main)
