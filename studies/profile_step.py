"""Where the time of a training step goes: the share of each of PyTorch's operations.

    python -m studies.profile_step autoencoder --precision fp32

On random images and on one thread; 40 steps after 10 that are not counted.
"""

import torch
from torch.profiler import ProfilerActivity, profile

from common.errors import run_script
from common.options import Parser
from common.tables import print_table
from common.training import RECIPES, choose_precision

SHOWN = 12


def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    recipe = RECIPES[options.name]
    precision = choose_precision(options.precision, torch.device("cpu"))
    x, labels = torch.rand(recipe.batch_size, 1, 32, 32), torch.zeros(recipe.batch_size).long()
    model = recipe.model()
    recipe.init(model, torch.rand(500, 1, 32, 32))
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = recipe.loss(model, x, labels)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(10):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(40):
            step()
    operations = sorted(profiler.key_averages(), key=lambda op: -op.self_cpu_time_total)
    whole = sum(op.self_cpu_time_total for op in operations)
    print_table(
        ("operation", "share (%)", "calls per step"),
        [
            (op.key, f"{100 * op.self_cpu_time_total / whole:.1f}", f"{op.count / 40:g}")
            for op in operations[:SHOWN]
        ],
    )


if __name__ == "__main__":
    run_script(main)
