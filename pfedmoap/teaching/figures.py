"""The teaching notebook's pictures, one per step. They are returned, not shown."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from torch import Tensor

from pfedmoap.data import ImageSet, Partition
from pfedmoap.experiments import Prepared
from pfedmoap.reports.figures import ACCURACY, COLORS, canvas, legend
from pfedmoap.server import Pool
from pfedmoap.teaching import gate, steps

OURS, ALONE, AVERAGED, UNTRAINED = (COLORS[name] for name in ("pfedmoap", "coop", "promptfl", "zero_shot"))
DARK, PALE = "0.25", "0.8"


def heterogeneity(imageset: ImageSet, deals: Mapping[str, Partition]) -> Figure:
    """Training images per client and class under several partitions of the same images, on one colour scale."""
    labels, classes = imageset.train.labels, len(imageset.class_names)
    counts = {title: np.stack([np.bincount(labels[own], minlength=classes) for own in deal.train])
              for title, deal in deals.items()}  # each (clients, classes)
    most = max(map(np.max, counts.values()))
    height = 1.5 + 0.2 * max(map(len, counts.values()))
    with canvas(1, len(deals), figsize=(3.6 * len(deals), height), squeeze=False) as (figure, (panels,)):
        for axes, (title, table) in zip(panels, counts.items(), strict=True):
            order = np.argsort(table.argmax(0), kind="stable")
            sns.heatmap(table[:, order], cmap="Blues", vmin=0, vmax=most, xticklabels=False, cbar=False, ax=axes)
            seen = (table > 0).sum(1).mean()
            axes.set(title=f"{title}\na client has {seen:.3g} of {classes} classes", xlabel="class")
            axes.tick_params(axis="y", rotation=0)
        panels[0].set_ylabel("client")
        figure.colorbar(panels[0].collections[0], ax=panels, label="training images", pad=0.01)
    return figure


def guesses(prepared: Prepared, client: int, prompts: Mapping[str, Tensor], count: int = 4, top: int = 4) -> Figure:
    """What CLIP makes of some of a client's test images under different prompts, by the probabilities of classes.

    Args:
        prompts: title -> text features (C, d), two of them.
        count: images, each of another class.
        top: classes that are shown for an image: the true one, and those most probable under any of the prompts.
    """
    federation, names = prepared.federation, prepared.imageset.class_names
    features, labels = steps.own_tests(prepared, client)
    chosen = steps.one_per_class(prepared, client, count)
    pairs = min(2, len(chosen))  # a picture and its bars, side by side
    rows = -(-len(chosen) // pairs)
    with canvas(rows, 2 * pairs, figsize=(5.5 * pairs, 0.5 + 1.65 * rows), squeeze=False,
                 width_ratios=(0.5, 1) * pairs) as (figure, panels):
        pictures, bars = panels[:, ::2].flat, panels[:, 1::2].flat
        for axes in panels.flat[2 * len(chosen) :]:
            axes.axis("off")
        for picture, axes, place in zip(pictures, bars, chosen, strict=False):
            show_image(picture, prepared, client, place, _wrap(names[labels[place]]))
            logits = torch.stack([federation.context.logit_scale * text @ features[place] for text in prompts.values()])
            values = logits.softmax(-1).cpu().numpy()  # (prompts, C)
            best = best_classes(torch.from_numpy(values.max(0)), labels[place], top)
            for row, (title, color) in enumerate(zip(prompts, (UNTRAINED, DARK), strict=True)):
                axes.barh(np.arange(len(best)) + 0.4 * row - 0.2, values[row, best], 0.38, color=color, label=title)
            name_classes(axes, [names[label] for label in best], best == labels[place].cpu())
            axes.set_xlim(0, 1)
        for axes in panels[-1, 1::2]:
            axes.set_xlabel("probability")
        legend(figure, panels[0, 1])
    return figure


def averaging(cosines: Tensor, line: pd.DataFrame) -> Figure:
    """Why averages hurt: the directions in which clients pull, and their loss between the average and their own prompt.

    Args:
        cosines: (clients, clients), of `steps.update_cosines`.
        line: of `steps.along_the_line`.
    """
    with canvas(1, 3, figsize=(11, 3.3), width_ratios=(1.15, 1, 1)) as (figure, (matrix, *panels)):
        few = len(cosines) <= 12
        sns.heatmap(cosines.numpy(), cmap="PuOr", vmin=-1, vmax=1, square=True, ax=matrix, fmt=".1f",
                    annot=np.round(cosines.numpy(), 1) + 0.0 if few else None,  # -0.0 would be printed as such
                    annot_kws={"fontsize": 6.5}, cbar_kws={"label": "cosine"})
        matrix.set(title="do they pull the same way?", xlabel="client", ylabel="client")
        matrix.tick_params(axis="y", rotation=0)
        for axes, column, label in zip(panels, ("loss", "accuracy"), ("test loss", ACCURACY), strict=True):
            table = line.pivot(index="share", columns="client", values=column)  # (stops, clients)
            lines = axes.plot(table, color=PALE, linewidth=1)
            lines[0].set_label("one client")
            mean = table.mean(axis=1)
            axes.plot(mean, color=DARK, linewidth=2, label="mean over clients")
            axes.plot(0, mean.iloc[0], "s", color=AVERAGED, markersize=9, label="averaged prompt")
            axes.plot(1, mean.iloc[-1], "o", color=ALONE, markersize=9, label="own prompts, learned alone")
            axes.set(xlabel="share of the own prompt", ylabel=label)
        legend(figure, panels[0])
    return figure


def pool_map(pool: Pool, lenders: int = 2) -> Figure:
    """The pool: distances between all prompts; and as a map, with an arrow from each lender to who borrows from it."""
    clients, distances = steps.pool_distances(pool)
    points, kept = steps.flatten_to_plane(distances)
    with canvas(1, 2, figsize=(10, 4.2), width_ratios=(1.1, 1)) as (figure, (matrix, plane)):
        shown = pd.DataFrame(np.where(np.eye(len(clients)), np.nan, distances), index=clients, columns=clients)
        sns.heatmap(shown, cmap="viridis_r", square=True, ax=matrix, cbar_kws={"label": "l2 distance of prompts"})
        matrix.set(title="who is near whom", xlabel="client", ylabel="client", facecolor="0.93")
        matrix.grid(False)
        matrix.tick_params(axis="y", rotation=0)
        place = dict(zip(clients, points, strict=True))
        for lender, borrower in steps.lending(pool, lenders):
            plane.annotate("", place[borrower], place[lender], gid=f"{lender}->{borrower}", arrowprops={
                "arrowstyle": "-|>", "color": DARK, "alpha": 0.6, "shrinkA": 6, "shrinkB": 7, "mutation_scale": 10,
                "connectionstyle": "arc3,rad=0.15"})
        plane.plot(*points.T, "o", color=OURS, markersize=14, zorder=3)
        for client, point in place.items():
            plane.annotate(str(client), point, ha="center", va="center", color="white", fontsize=8, fontweight="bold",
                           zorder=4)
        plane.set(title=f"arrows: the {lenders} nearest lend to a client\n"
                        f"(in two dimensions, which keep {100 * kept:.0f} % of squared distances)")
        plane.axis("off")
        plane.margins(0.12)
        plane.set_aspect("equal", adjustable="datalim")
    return figure


def attention_on_images(prepared: Prepared, client: int, count: int = 4, foreign: int = 2) -> Figure:
    """A gate at work: for some images, how far the weight of every expert is from an even one, class by class.

    Args:
        count: images, each of another class of the client's.
        foreign: classes shown that are not the client's own: those that the client holds most probable.
    """
    personal = gate.personal_model(prepared, client)
    features, labels = steps.own_tests(prepared, client)
    chosen, names = steps.one_per_class(prepared, client, count), prepared.imageset.class_names
    weights = gate.attention(prepared, client, features[chosen])  # (B, C, heads, J)
    experts = weights.shape[-1]
    uneven = (weights.mean(2) * experts - 1).cpu().numpy()  # (B, C, J)
    with torch.no_grad():
        logits = personal.method.logits(
            personal.model, personal.fixed, features[chosen][None], prepared.federation.context)[0]  # (B, C)
    own = labels.unique().tolist()
    ranked = logits.softmax(-1).mean(0).argsort(descending=True).tolist()
    shown = own[:count] + [label for label in ranked if label not in own][:foreign]
    power = int(np.floor(np.log10(np.abs(uneven[:, shown]).max())))
    scaled = uneven[:, shown] / 10.0**power
    reach = np.abs(scaled).max()
    size = (1.8 + 2.35 * len(chosen), 2.6 + 0.3 * len(shown))
    with canvas(2, len(chosen), figsize=size, squeeze=False, height_ratios=(1, 0.2 * len(shown))) as (figure, panels):
        for column, place in enumerate(chosen):
            evenness = gate.entropy(weights[column : column + 1]).item()
            title = f"{names[labels[place]]}\nentropy 1 − {max(1 - evenness, 0):.0e}"
            show_image(panels[0, column], prepared, client, place, title)
            sns.heatmap(scaled[column], cmap="PuOr", vmin=-reach, vmax=reach, cbar=False, ax=panels[1, column],
                        xticklabels=["own", *personal.lenders], yticklabels=False, linewidths=0.4)
            panels[1, column].set_xlabel("expert, nearest first")
            panels[1, column].tick_params(axis="x", rotation=0 if experts <= 6 else 90)
        axes = panels[1, 0]
        axes.set_yticks(np.arange(len(shown)) + 0.5, [names[label] + " (own)" * (label in own) for label in shown])
        axes.tick_params(axis="y", rotation=0)
        figure.colorbar(axes.collections[0], ax=panels[1], pad=0.01,
                        label=f"{experts} × weight − 1,\nin 10$^{{{power}}}$")
    return figure


def entropies(table: pd.DataFrame, own_scale: float) -> Figure:
    """`gate.entropy_by_spread` as curves, one per factor on the attention scores; the method's own is drawn thick."""
    with canvas(figsize=(6.5, 3.2)) as (figure, axes):
        scales = sorted(table["scale"].unique())
        for scale, shade in zip(scales, np.linspace(0.65, 0, len(scales)), strict=True):
            here, ours = table[table["scale"] == scale], scale == own_scale
            axes.plot(here["factor"], here["entropy"], "o-", color=OURS if ours else str(shade),
                      linewidth=3 if ours else 1.5, markersize=4, zorder=3 if ours else 2,
                      label=f"scores × {scale:g}" + (" (as it is)" if ours else ""))
        axes.set(xscale="log", ylim=(0, 1.05), xlabel="distances between the experts' prompts, times",
                 ylabel="entropy of the attention")
        legend(figure, axes)
    return figure


def gradients(norms: pd.Series) -> Figure:
    """`gate.gradients` on a logarithmic axis; biases that softmax ignores are the pale bars."""
    ignored = ["key.bias", "value.bias", "output.bias"]
    colors = [PALE if name in ignored else OURS for name in norms.index]
    least = 1e-18
    with canvas(figsize=(7, 0.8 + 0.3 * len(norms))) as (figure, axes):
        bars = axes.barh(norms.index, norms.clip(least) - least / 2, color=colors)
        axes.bar_label(bars, [f"{norm:.0e}" for norm in norms], padding=3, fontsize=9)
        axes.set(xscale="log", xlim=(least, 30 * max(norms.max(), 1)), xlabel="norm of the gradient")
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
    return figure


def traffic(table: pd.DataFrame) -> Figure:
    """`steps.traffic` on a logarithmic axis: what travels in the method's colour, what stays in grey."""
    colors = {"received": OURS, "sent": OURS, "stays": PALE}
    kib = table["bytes"] / 1024
    with canvas(figsize=(7.5, 0.9 + 0.34 * len(table))) as (figure, axes):
        bars = axes.barh(table.index, kib.clip(0.1), color=table["where"].map(colors))
        axes.bar_label(bars, [f"{where}, {size:,.3g} KiB" if size < 1000 else f"{where}, {size / 1024:,.3g} MiB"
                              for where, size in zip(table["where"], kib, strict=True)], padding=4)
        axes.set(xscale="log", xlim=(0.1, 100 * kib.max()), xlabel="KiB")
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
    return figure


def show_image(axes: plt.Axes, prepared: Prepared, client: int, place: int, title: str) -> None:
    """One of a client's test images."""
    axes.imshow(prepared.imageset.test.images[int(prepared.partition.test[client][place])])
    axes.set_title(title, fontsize=9)
    axes.axis("off")


def best_classes(scores: Tensor, true: Tensor, top: int) -> Tensor:
    """The `top` classes by score, best first, of which the last gives way if the true one is not among them."""
    best = scores.cpu().argsort(descending=True, stable=True)[:top]
    return best if (best == true.cpu()).any() else torch.cat([best[:-1], true.cpu()[None]])


def _wrap(name: str) -> str:
    """A class name on two lines."""
    return name.replace(" ", "\n", 1)


def name_classes(axes: plt.Axes, names: Sequence[str], true: Tensor) -> None:
    """Class names at the bars, the best on top, the true one in bold."""
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    for label, bold in zip(axes.get_yticklabels(), true.tolist(), strict=True):
        label.set_fontweight("bold" if bold else "normal")
