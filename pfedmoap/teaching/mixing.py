"""The logits of a finished federation at any lambda and K, and sliders to move the two (equation 10)."""

from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from typing import NamedTuple

import ipywidgets as widgets
import numpy as np
import pandas as pd
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from pfedmoap.experiments import Prepared
from pfedmoap.reports.figures import ACCURACY, COLORS, canvas, legend
from pfedmoap.teaching import gate as gates
from pfedmoap.teaching import steps
from pfedmoap.teaching.figures import OURS, best_classes, name_classes, show_image

LOCAL = "#7fc9b4"  # a paler shade of the method's colour
MOST_LAMBDA = 5.0


class Parts(NamedTuple):
    """The two summands of a client's logits over its test set, each (B, C); `gate` is None without a gate."""

    gate: Tensor | None
    local: Tensor


class Mixing:
    """pFedMoAP's clients as they would be tested at another lambda and K; nothing is trained again.

    Attributes:
        lam, experts: lambda and K that the federation was trained with; K at most the other clients' number.
    """

    def __init__(self, prepared: Prepared):
        self.prepared = prepared
        self.clients = prepared.experiment.clients
        self.lam, experts = prepared.experiment.method.lam, prepared.experiment.method.experts
        self.most_experts = self.clients - 1
        self.experts = min(experts if isinstance(experts, int) else max(experts), self.most_experts)
        self._parts = lru_cache(maxsize=None)(self._compute_parts)

    def logits(self, client: int, lam: float, experts: int) -> Tensor:
        """A client's test set: (B, C)."""
        gate, local = self._parts(client, experts)
        return local if gate is None else gate + lam * local

    def accuracies(self, lam: float, experts: int) -> np.ndarray:
        """Every client's accuracy on its private test set, in percent: (clients,)."""
        return np.array([self._accuracy(client, self.logits(client, lam, experts)) for client in range(self.clients)])

    def sweep(self, lams: Sequence[float], counts: Sequence[int]) -> pd.DataFrame:
        """Mean accuracy over clients, in percent: one row per lambda, one column per K."""
        return pd.DataFrame({experts: [self.accuracies(lam, experts).mean() for lam in lams] for experts in counts},
                            index=pd.Index(lams, name="lambda"))

    def own_classes(self) -> pd.DataFrame:
        """What the accuracy is made of, in percent, each the unweighted mean over clients.

        Returns:
            For the hand-written prompt, and for the parts and the whole of the clients' logits: "accuracy"; "answers
            among own classes", how often the most probable of all classes is one that the client trains on; "accuracy
            among own classes", if the client chose among those only.
        """
        context = self.prepared.federation.context
        measured: dict[str, list[tuple[float, ...]]] = {}
        for client in range(self.clients):
            gate, local = self._parts(client, self.experts)
            images, _ = steps.own_tests(self.prepared, client)
            logits = {"hand-written prompt": context.logit_scale * images @ context.handwritten.T,
                      "local prompt": local, "gate": local if gate is None else gate,
                      "gate + λ local prompt": self.logits(client, self.lam, self.experts)}
            own = self._own(client)  # (C,)
            for title, values in logits.items():
                numbers = (self._accuracy(client, values), 100 * own[values.argmax(1)].double().mean().item(),
                           self._accuracy(client, values.masked_fill(~own, float("-inf"))))
                measured.setdefault(title, []).append(numbers)
        columns = ["accuracy", "answers among own classes", "accuracy among own classes"]
        return pd.DataFrame({title: np.mean(rows, axis=0) for title, rows in measured.items()}, index=columns).T

    def curves(self, lams: Sequence[float], counts: Sequence[int]) -> Figure:
        """Mean accuracy over lambda, a line per K, wider ones behind; beside what no training would give."""
        table, lines = self.sweep(lams, counts), self.own_classes()
        with canvas(figsize=(7.5, 3.6)) as (figure, axes):
            for position, experts in enumerate(table):
                last = position == len(table.columns) - 1
                axes.plot(table[experts], color=OURS, alpha=1 if last else 0.25 + 0.15 * position,
                          linewidth=2 + 3.5 * (len(table.columns) - 1 - position), label=f"K = {experts}")
            axes.axvline(self.lam, color="0.25", linewidth=1, linestyle=":", label=f"trained with λ = {self.lam:g}")
            for column, name, title in (("accuracy", "zero_shot", "hand-written prompt"),
                                        ("accuracy among own classes", "zs_own_classes", "the same, own classes only")):
                axes.axhline(lines.loc["hand-written prompt", column], color=COLORS[name], linestyle="--", label=title)
            axes.set(xlabel="λ", ylabel=ACCURACY, ylim=(0, 100))
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        return figure

    def draw(self, lam: float, experts: int, client: int = 0, place: int = 0, top: int = 4) -> Figure:
        """One setting: every client's accuracy, and for one image the two summands and the probabilities.

        Args:
            place: of the image in the client's test set.
            top: classes that are shown: the most probable ones, and the true one.
        """
        names, labels = self.prepared.imageset.class_names, steps.own_tests(self.prepared, client)[1]
        gate, local = self._parts(client, experts)
        logits = self.logits(client, lam, experts)[place]
        best = best_classes(logits, labels[place], top)
        accuracies, at = self.accuracies(lam, experts), np.arange(len(best))
        with canvas(1, 4, figsize=(12.5, 2.9), width_ratios=(1.5, 0.75, 1.15, 0.8)) as (
                figure, (bars, picture, summands, probabilities)):
            colors = [OURS if other == client else LOCAL for other in range(self.clients)]
            bars.bar(range(self.clients), accuracies, color=colors)
            bars.axhline(accuracies.mean(), color="0.25", linewidth=1)
            title = f"λ = {lam:g}, K = {experts}: mean {accuracies.mean():.1f} %"
            bars.set(xlabel="client", ylabel=ACCURACY, ylim=(0, 100), title=title)
            bars.grid(axis="x", visible=False)
            show_image(picture, self.prepared, client, place, f"client {client}'s\n{names[labels[place]]}")
            parts = {"gate": (torch.zeros_like(local) if gate is None else gate)[place],
                     "λ × local prompt": (local if gate is None else lam * local)[place]}
            for row, ((title, part), color) in enumerate(zip(parts.items(), (OURS, LOCAL), strict=True)):
                centred = (part - part.mean())[best].cpu().numpy()  # softmax ignores what all classes share
                summands.barh(at + 0.4 * row - 0.2, centred, 0.38, color=color, label=title)
            true = best == labels[place].cpu()
            name_classes(summands, [names[label] for label in best], true)
            summands.axvline(0, color="0.25", linewidth=1)
            summands.set(xlabel="logit above the mean class")
            probabilities.barh(at, logits.softmax(-1)[best].cpu().numpy(), 0.7, color="0.25")
            name_classes(probabilities, [""] * len(best), true)
            probabilities.set(xlim=(0, 1), xlabel="probability")
            legend(figure, summands)
        return figure

    def sliders(self) -> widgets.VBox:
        """`draw` with sliders for lambda, K, client and image. Moving one redraws; nothing is trained."""
        return Sliders(self).box

    def _accuracy(self, client: int, logits: Tensor) -> float:
        return 100 * (logits.argmax(1) == steps.own_tests(self.prepared, client)[1]).double().mean().item()

    def _own(self, client: int) -> Tensor:
        """The classes that a client has training images of: (C,) bool."""
        data = self.prepared.federation.data
        rows = torch.from_numpy(data.train_rows[client]).to(data.train_labels.device)
        classes = len(self.prepared.imageset.class_names)
        return torch.bincount(data.train_labels[rows], minlength=classes) > 0

    @torch.no_grad()
    def _compute_parts(self, client: int, experts: int) -> Parts:
        context = self.prepared.federation.context
        personal = gates.personal_model(self.prepared, client, lam=0.0, experts=experts)
        images, _ = steps.own_tests(self.prepared, client)
        local = context.logit_scale * images @ context.text(personal.model["prompt"])[0].T  # (B, C)
        if "experts" not in personal.fixed:
            return Parts(None, local)
        return Parts(personal.method.logits(personal.model, personal.fixed, images[None], context)[0], local)


class Sliders:
    """The controls, and the picture that follows them.

    Attributes:
        box: what a notebook displays.
    """

    def __init__(self, mixing: Mixing):
        self.mixing = mixing
        wide = {"description_width": "60px"}
        self.lam = widgets.FloatSlider(mixing.lam, min=0, max=max(MOST_LAMBDA, mixing.lam), step=0.05,
                                       description="λ", style=wide)
        self.experts = widgets.IntSlider(mixing.experts, min=0, max=mixing.most_experts, description="K", style=wide)
        self.client = widgets.IntSlider(0, min=0, max=mixing.clients - 1, description="client", style=wide)
        self.image = widgets.IntSlider(0, min=0, max=self._images - 1, description="image", style=wide)
        self.picture = widgets.Image(format="png", layout=widgets.Layout(max_width="100%"))
        self.picture.add_class("pfedmoap-mixing")
        self.client.observe(self._change_client, "value")
        for slider in (self.lam, self.experts, self.image):
            slider.observe(self._redraw, "value")
        left, right = widgets.VBox([self.lam, self.experts]), widgets.VBox([self.client, self.image])
        self.box = widgets.VBox([widgets.HBox([left, right]), self.picture])
        self._redraw()

    @property
    def _images(self) -> int:
        return len(self.mixing.prepared.partition.test[self.client.value])

    def _change_client(self, change=None) -> None:
        self.image.max = self._images - 1  # moves the image, and thereby redraws, where the client has fewer
        self._redraw()

    def _redraw(self, change=None) -> None:
        content = BytesIO()
        figure = self.mixing.draw(self.lam.value, self.experts.value, self.client.value, self.image.value)
        figure.set_dpi(90)
        FigureCanvasAgg(figure).print_png(content)  # `savefig` would draw everything twice
        self.picture.value = content.getvalue()
