"""One training step of pFedMoAP at the paper's shapes: this package against a plain implementation (`plain.py`).

RN50's text tower at random weights, 16 context tokens, batch 16, 9 non-local experts; C as in the paper's five few-shot
sets. The sides take turns in one process, from the same start on the same images: the plain one in fp32, ours in fp32
and with the frozen tower in bf16. The plain side trains clients in turn: unless --plain-cohort measures it, a cohort's
time is the number of clients times one client's (column `plain_from`).

    python tests/benchmarks/training_step.py [--classes 102] [--clients 1,10] [--repeats 3]
"""

import torch
from measuring import arguments_of, median, precisions, report, side_by_side, write_rows
from plain import PlainStep
from workload import BATCH, Step, random_clip


def whole_numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def relative_difference(ours: dict, plain: dict, part: str) -> float:
    """||ours - plain|| / ||plain|| over the tensors of a part of the model."""
    names = [name for name in ours if name.startswith(part)]
    return float(sum((ours[name] - plain[name]).square().sum() for name in names) ** 0.5
                 / sum(plain[name].square().sum() for name in names) ** 0.5)


def compare(
    model: str, device: str, classes: int, cohorts: list[int], repeats: int, plain_clients: int
) -> list[dict]:
    """One row per number of clients and precision, all against the same runs of the plain side."""
    clip, most = random_clip(model, device=device), max(cohorts)
    torch.manual_seed(0)
    pixels = torch.randn(most, BATCH, 3, clip.image_size, clip.image_size).to(device)
    images = torch.stack([clip.encode_images(own) for own in pixels])  # (clients, B, d)
    clips = {precision: random_clip(model, precision, device) for precision in precisions(None, device)}
    steps = {(clients, precision): Step(clips[precision], classes, clients, images=images[:clients])
             for clients in cohorts for precision in clips}
    results = {side: step() for side, step in steps.items()}  # warms up, too
    plain, expected = PlainStep(clip, Step(clip, classes, plain_clients), pixels[:plain_clients]), []
    seconds = side_by_side({"plain": lambda: expected.append(plain())} | steps, repeats)
    plain_losses, plain_gradients = expected[0]
    rows = []
    for (clients, precision), (losses, gradients) in results.items():
        base, ours, factor = median(seconds["plain"]), median(seconds[clients, precision]), clients / plain_clients
        row = {"model": model, "classes": classes, "clients": clients, "precision": precision,
               "plain_s": factor * base.wall, "ours_s": ours.wall, "speedup": factor * base.wall / ours.wall,
               "plain_cpu_s": factor * base.processor, "ours_cpu_s": ours.processor,
               "cpu_speedup": factor * base.processor / ours.processor}
        both = min(clients, plain_clients)
        known, wanted = ({name: part[:both] for name, part in own.items()} for own in (gradients, plain_gradients))
        rows.append(row | {
            "loss_difference": float((losses[:both] / plain_losses[:both] - 1).abs().max()),
            "prompt_gradient_difference": relative_difference(known, wanted, "prompt"),
            "gate_gradient_difference": relative_difference(known, wanted, "gate"),
            "plain_from": f"{plain_clients} clients" if plain_clients > 1 else "1 client"})
    return rows


def main(argv: list[str] | None = None) -> None:
    parser = arguments_of(__doc__, device="cpu")
    parser.add_argument("--model", default="RN50-quickgelu", help="open_clip's name of the CLIP")
    parser.add_argument("--classes", type=whole_numbers, default=[37, 47, 100, 101, 102], help="C, with commas between")
    parser.add_argument("--clients", type=whole_numbers, default=[1, 10], help="that train together")
    parser.add_argument("--plain-cohort", action="store_true", help="measure the plain side with all clients, in turn")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    plain_clients, rows = max(arguments.clients) if arguments.plain_cohort else 1, []
    for classes in arguments.classes:
        rows += compare(arguments.model, arguments.device, classes, arguments.clients, arguments.repeats, plain_clients)
        write_rows(rows, arguments.out, "training_step")  # an interrupted run has what it finished
    report(rows, arguments.out, "training_step")


if __name__ == "__main__":
    main()
