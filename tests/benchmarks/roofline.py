"""The rate of arithmetic of a training step against that of a plain matrix product in the same process.

Counted are the multiplications and additions of all matrix products of the step (`step_flops`), twice one each; the
rest of its work counts as time only. The matrix products it is held against are of the step's own shapes, alternating
(tokens x e times e x 4e and back), and a large square one. Bytes moved are those that every operation reads and writes,
as if there were no cache. The sides take turns. A GPU also repeats the step as a CUDA graph, and computes it in tf32
where that is among --precisions: fp32 whose matrix products are of fewer digits.

    python tests/benchmarks/roofline.py [--classes 102] [--size 2048] [--repeats 7] [--device cuda --precisions tf32]
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from measuring import arguments_of, median, peak_mib, precisions, report, side_by_side
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from workload import BATCH, CONTEXT_TOKENS, Step, random_clip

from pfedmoap import graphs
from pfedmoap.clip import Clip


def step_flops(step: Step) -> int:
    """Floating-point operations of the matrix products of one `Step`, forward and backward.

    Weights of the text tower are frozen: a backward pass costs its linear layers as much as the forward pass.
    """
    tower = step.context.text.encoder._chunks[0]
    layout = tower._layout
    prompts, context, e = step.start["prompt"].shape
    prefix, classes, longest = 1 + context, len(step.names), layout.longest
    tokens, width = prefix + len(layout.pack), step.images.shape[-1]
    linear = 24 * tokens * e * e  # one block: 6 for q, k, v, 2 out, 16 the MLP
    suffixes = 4 * classes * longest * (prefix + longest) * e  # scores and mixtures
    last = 4 * tokens * e * e + 20 * classes * e * e  # keys and values of all, the rest for EOT alone
    last_attention = 4 * classes * (prefix + longest) * e
    blocks = len(tower._blocks) - 1
    text = blocks * (2 * linear + 3 * suffixes + 3.5 * 4 * prefix * prefix * e)  # fused attention computes scores again
    text += 2 * last + 3 * last_attention + 2 * 2 * classes * e * width
    own = 2 * 2 * BATCH * classes * width  # the local prompt's logits; images need no gradient
    g, pairs = step.method.d_gating, (1 + step.method.experts) * classes
    gate = 2 * 4 * BATCH * g * g  # W_q and W_o see images
    gate += 2 * (4 * pairs + 2 * classes) * g * g  # W_k and W_v see all experts; the local one alone has a gradient
    gate += 2 * 6 * BATCH * pairs * g + 2 * 2 * BATCH * g  # scores and matches; the output bias
    total = prompts * (text + own + gate)
    if prompts > 1:  # in the first block, one row of suffixes serves all prompts and needs no gradient
        scores = 2 * classes * longest * longest * e
        total -= 6 * len(layout.pack) * e * e * (2 * prompts - 1)  # q, k, v
        total -= scores * (3 * prompts - 1) + scores * prompts  # queries with own keys; mixtures of own values
        total -= 2 * classes * longest * prefix * e * prompts  # queries with the prefix's keys
    return int(total)


class BytesMoved(TorchDispatchMode):
    """Adds up what every operation that is no view reads and writes."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function, types, arguments=(), settings=None):
        result = function(*arguments, **(settings or {}))
        if not function.is_view:
            tensors = [leaf for leaf in tree_leaves((arguments, settings, result)) if isinstance(leaf, torch.Tensor)]
            self.total += sum(tensor.nbytes for tensor in tensors)
        return result


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Within it, matrix products in fp32 are computed in TF32 if that is the precision."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


def as_graph(step: Step, clip: Clip) -> Callable[[], None] | None:
    """The step as a GPU repeats it by itself; None where it cannot be captured."""
    capture = graphs.capture_for(clip.device)
    try:
        return capture and capture(step)
    except RuntimeError:
        return None


def products(tokens: int, width: int, clip: Clip) -> tuple[Callable, int]:
    """Two matrix products of the step's shapes, and their operations."""
    shapes = (tokens, width), (4 * width, width), (width, 4 * width)
    x, up, down = (torch.randn(shape).to(clip.device, clip.dtype) for shape in shapes)
    return lambda: x @ up.T @ down.T, 2 * 2 * 4 * tokens * width * width


def square(size: int, clip: Clip) -> tuple[Callable, int]:
    a, b = torch.randn(2, size, size).to(clip.device, clip.dtype)
    return lambda: a @ b, 2 * size**3


def compare(model: str, precision: str, device: str, classes: int, clients: int, size: int, repeats: int) -> dict:
    clip = random_clip(model, "bf16" if precision == "bf16" else "fp32", device)
    step = Step(clip, classes, clients)
    with BytesMoved() as moved:
        step()
    tokens = clients * (1 + CONTEXT_TOKENS + len(step.context.text.encoder._chunks[0]._layout.pack))
    sides = {"step": (step, step_flops(step)), "alike": products(tokens, clip.token_width, clip),
             "square": square(size, clip)}
    if graph := as_graph(step, clip):
        sides["graph"] = graph, step_flops(step)
    for action, _ in sides.values():
        action()
    seconds = side_by_side({name: action for name, (action, _) in sides.items()}, repeats)
    work = {name: flops for name, (_, flops) in sides.items()}
    wall, cpu = ({name: work[name] / getattr(median(took), clock) / 1e9 for name, took in seconds.items()}
                 for clock in ("wall", "processor"))
    row = {
        "model": model, "classes": classes, "clients": clients, "precision": precision, "gflop": work["step"] / 1e9,
        "gigabytes_moved": moved.total / 1e9, "flop_per_byte": work["step"] / moved.total,
        "step_s": median(seconds["step"]).wall, "step_cpu_s": median(seconds["step"]).processor,
        "step_gflops": wall["step"], "alike_gflops": wall["alike"], "square_gflops": wall["square"],
        "of_alike": wall["step"] / wall["alike"], "of_square": wall["step"] / wall["square"],
        "cpu_of_alike": cpu["step"] / cpu["alike"], "cpu_of_square": cpu["step"] / cpu["square"]}
    if clip.device.type == "cuda":
        row |= {"graph_s": median(seconds["graph"]).wall if graph else None, "peak_mib": peak_mib(step)}
    return row


def main(argv: list[str] | None = None) -> None:
    parser = arguments_of(__doc__, repeats=7, device="cpu")
    parser.add_argument("--model", default="RN50-quickgelu", help="open_clip's name of the CLIP")
    parser.add_argument("--classes", type=int, default=102, help="C")
    parser.add_argument("--clients", type=int, default=10, help="of the cohort that is measured beside a single client")
    parser.add_argument("--size", type=int, default=2048, help="of the square matrix product")
    parser.add_argument("--precisions", type=lambda text: text.split(","), help="of fp32, bf16 and tf32")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    rows, names = [], precisions(arguments.precisions, arguments.device)
    for clients in sorted({1, arguments.clients}):
        for precision in names:
            with arithmetic(precision):
                rows.append(compare(arguments.model, precision, arguments.device, arguments.classes, clients,
                                    arguments.size, arguments.repeats))
    report(rows, arguments.out, "roofline")


if __name__ == "__main__":
    main()
