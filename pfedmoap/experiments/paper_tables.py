"""The grids of tables 1 to 8 and of figures 3 and 4. Each states its rows and columns in one expression.

All take the same arguments: `profile`; `seeds` (None: the profile's); `methods`, names of those to keep (None: all);
and settings of `Experiment` that replace the profile's in every run.
"""

from collections.abc import Sequence
from typing import Any

from pfedmoap.experiments.grid import Column, Grid, Row, build_grid
from pfedmoap.experiments.profiles import DIGITS_BY_DIRICHLET, STAND_INS
from pfedmoap.methods import (
    CLAP,
    ClassMeans,
    CoOp,
    FedAMP,
    FedAvgProbe,
    FedOTP,
    FedPer,
    FedPGP,
    FedProx,
    LogisticRegression,
    PFedMoAP,
    PFedPrompt,
    PromptFL,
    PromptFLFT,
    TipAdapter,
    TipAdapterF,
    ZeroShot,
    ZeroShotOwnClasses,
    ZeroShotPrior,
)
from pfedmoap.released import RELEASED

# What the evaluation gives away for knowing which classes a client owns, and what is left without experts or prompts.
CONTROLS = (
    Row("ZS-CLIP, own classes only", ZeroShotOwnClasses(), control=True),
    Row("ZS-CLIP + label prior", ZeroShotPrior(), control=True),
    Row("pFedMoAP without experts (K = 0)", PFedMoAP(experts=0), control=True),
    Row("pFedMoAP with a frozen prompt", PFedMoAP(train_prompt=False), control=True),
)
# What a user would pick instead: classifiers of image features, which learn no prompt. They stand in every table; in
# tables 5 to 8 they are the runs of tables 1 and 3, which have the same data.
# Tip-Adapter's authors choose α on validation images; on the embedded sets' validation draws 100 is far better than 1.
CLASSIFIERS = (
    Row("Logistic regression", LogisticRegression(), control=True),
    Row("Class means", ClassMeans(), control=True),
    Row("Tip-Adapter", TipAdapter(), control=True),
    Row("Tip-Adapter (α = 100)", TipAdapter(cache_weight=100.0), control=True),
    Row("Tip-Adapter-F", TipAdapterF(), control=True),
    Row("CLAP", CLAP(), control=True),
    Row("FedAvg of linear probes", FedAvgProbe(), control=True),
)
FEDERATED = (
    Row("ZS-CLIP", ZeroShot(), "ZS-CLIP"),
    Row("CoOp", CoOp(), "CoOp"),
    Row("PromptFL", PromptFL(), "PromptFL"),
    Row("Prompt+FedProx", FedProx(), "Prompt+FedProx"),
)  # the rows of tables 2 to 4 besides pFedMoAP's
EXPERTS = (5, 10, 15, 20, 25, 30)  # K + 1 in Table 7
WIDTH_SHARES = (32, 16, 8, 4, 2, 1)  # d / d_gating in Table 8
FEATURE_WIDTH = {"paper": 1024, "long": 256, "quick": 256, "smoke": 256}  # d of the profile's CLIP
BUDGETS = (50, 25)  # epsilon in Table 5
SHOTS = (1, 2, 4, 8, 16)  # Figure 3
LAMBDAS = (0, 0.25, 0.5, 1, 2, 3, 4, 5)  # Figure 4

Seeds = Sequence[int] | None
Methods = Sequence[str] | None


def table1(profile: str = "quick", seeds: Seeds = None, methods: Methods = None, **overrides: Any) -> Grid:
    """Table 1: few-shot accuracy on five sets whose classes are dealt to ten clients."""
    rows = (
        *FEDERATED[:3],
        Row("PromptFL+FT", PromptFLFT(), "PromptFL+FT"),
        Row("Prompt+FedPer", FedPer(), "Prompt+FedPer"),
        FEDERATED[3],
        Row("Prompt+FedAMP", FedAMP(), "Prompt+FedAMP"),
        Row("pFedPrompt", PFedPrompt(), "pFedPrompt"),
        Row("FedOTP", FedOTP(), "FedOTP"),
        Row("FedPGP", FedPGP()),
        Row("pFedMoAP (λ = 0)", PFedMoAP(lam=0.0), "pFedMoAP (lambda=0.0)"),
        Row("pFedMoAP (λ = 0.5)", PFedMoAP(lam=0.5), "pFedMoAP (lambda=0.5)"),
        *CONTROLS,
        *CLASSIFIERS,
    )
    return build_grid("table1", profile, rows, _label_disjoint(profile), seeds, methods, overrides)


def table2(profile: str = "quick", seeds: Seeds = None, methods: Methods = None, **overrides: Any) -> Grid:
    """Table 2: all images of two sets, dealt to many clients in proportions from Dir(0.5)."""
    ours = (Row("pFedMoAP", PFedMoAP(), "pFedMoAP"),)
    columns = [_column("CIFAR10", profile, settings=DIGITS_BY_DIRICHLET[profile]), _column("CIFAR100", profile)]
    rows = _with_released(*FEDERATED, *ours)
    return build_grid("table2", profile, rows, columns[: 1 if profile == "smoke" else 2], seeds, methods, overrides)


def table3(profile: str = "quick", seeds: Seeds = None, methods: Methods = None, **overrides: Any) -> Grid:
    """Table 3: six domains, each dealt to five clients in proportions from Dir(0.3).

    The published pFedMoAP row equals Table 7's K+1 = 20 row, which was run at λ = 5; the default comes second (SPEC 6).
    """
    ours = (Row("pFedMoAP (λ = 5, K+1 = 20)", PFedMoAP(lam=5.0, experts=19), "pFedMoAP"),
            Row("pFedMoAP (λ = 0.5, K+1 = 10)", PFedMoAP()))
    rows = _with_released(*FEDERATED, *ours)
    return build_grid("table3", profile, rows, _domainnet(profile), seeds, methods, overrides)


def table4(profile: str = "quick", seeds: Seeds = None, methods: Methods = None, **overrides: Any) -> Grid:
    """Table 4: four domains, each dealt to five clients in proportions from Dir(0.3).

    The paper does not say with which λ and K pFedMoAP was run: both candidates stand beside its row (SPEC 6).
    """
    ours = (Row("pFedMoAP (λ = 5, K+1 = 20)", PFedMoAP(lam=5.0, experts=19), "pFedMoAP"),
            Row("pFedMoAP (λ = 0.5, K+1 = 10)", PFedMoAP(), "pFedMoAP"))
    rows = _with_released(*FEDERATED, *ours)
    names = {"Amazon": (0, "product"), "Caltech": (2, "grayscale"), "DSLR": (3, "wallpaper"), "Webcam": (1, "webcam")}
    columns = _domains("Office-Caltech10", profile, names)
    return build_grid("table4", profile, rows, columns, seeds, methods, overrides)


def table5(profile: str = "quick", seeds: Seeds = None, methods: Methods = None, **overrides: Any) -> Grid:
    """Table 5: Table 1's sets under (epsilon, 0.05)-differential privacy of every upload."""
    rows = [Row(f"{method.title} ({shown})", method, f"{method.title} ({known})", settings=settings)
            for shown, known, settings in (
                ("no privacy", "no privacy", {}),
                *((f"ε = {bound}", f"epsilon={bound}", {"epsilon": float(bound)}) for bound in BUDGETS))
            for method in (PromptFL(), FedProx(), PFedMoAP())]
    rows += [*CONTROLS, *CLASSIFIERS]
    return build_grid("table5", profile, rows, _label_disjoint(profile), seeds, methods, overrides)


def table6(profile: str = "quick", seeds: Seeds = None, methods: Methods = None, **overrides: Any) -> Grid:
    """Table 6: the gate as a linear projection, with the aggregated prompt as the only expert, and as it is."""
    rows = (
        Row("Linear projection-based (3 experts)", PFedMoAP(gate="linear", experts=2),
            "Linear projection-based (3 experts)"),
        Row("Linear projection-based (10 experts)", PFedMoAP(gate="linear", experts=9),
            "Linear projection-based (10 experts)"),
        Row("Attention-based, with aggregation", PFedMoAP(expert_choice="global"), "Attention-based, with aggregation"),
        Row("Attention-based, without aggregation (ours)", PFedMoAP(), "Attention-based, without aggregation (ours)"),
        *CONTROLS,
        *CLASSIFIERS,
    )
    return build_grid("table6", profile, rows, _label_disjoint(profile), seeds, methods, overrides)


def table7(profile: str = "quick", seeds: Seeds = None, methods: Methods = None, **overrides: Any) -> Grid:
    """Table 7: the number of experts on Table 3's data, at λ = 5."""
    rows = [Row(f"K+1 = {count}", PFedMoAP(lam=5.0, experts=count - 1), f"pFedMoAP (K+1={count})", curve="pFedMoAP",
                x=count) for count in EXPERTS]
    rows += [Row("K+1 = 1, without experts", PFedMoAP(lam=5.0, experts=0), control=True),
             Row("K+1 = 10, random experts", PFedMoAP(lam=5.0, expert_choice="random"), control=True),
             *CONTROLS[:2], *CLASSIFIERS]
    return build_grid("table7", profile, rows, _domainnet(profile), seeds, methods, overrides, axis="K + 1 experts")


def table8(profile: str = "quick", seeds: Seeds = None, methods: Methods = None, **overrides: Any) -> Grid:
    """Table 8: the gate's width, as fractions of the CLIP's feature width d (1024 in the paper)."""
    width = FEATURE_WIDTH[profile]
    rows = [Row("d_gating = d" + f"/{share}" * (share > 1), PFedMoAP(d_gating=width // share),
                f"pFedMoAP (d={1024 // share})", curve="pFedMoAP", x=width // share) for share in WIDTH_SHARES]
    rows += [*CONTROLS, *CLASSIFIERS]
    columns = _label_disjoint(profile)
    return build_grid("table8", profile, rows, columns, seeds, methods, overrides, axis="d_gating", log_axis=True)


def figure3(profile: str = "quick", seeds: Seeds = None, methods: Methods = None, **overrides: Any) -> Grid:
    """Figure 3: Table 1's sets with 1 to 16 training images per class.

    In `smoke` with up to 4, as each costs features.
    """
    numbers = SHOTS[:3] if profile == "smoke" else SHOTS
    rows = [Row(f"{method.title}, {shots} shot{'s' * (shots > 1)}", method, settings={"shots": shots},
                curve=method.title, x=shots)
            for method in (PromptFL(), FedProx(), PFedMoAP()) for shots in numbers]
    columns = _label_disjoint(profile)
    return build_grid("figure3", profile, rows, columns, seeds, methods, overrides, axis="shots", log_axis=True)


def figure4(profile: str = "quick", seeds: Seeds = None, methods: Methods = None, **overrides: Any) -> Grid:
    """Figure 4: λ, the weight of the local prompt's logits. The plot's own grid is not legible; this one is ours."""
    rows = [Row(f"λ = {lam:g}", PFedMoAP(lam=float(lam)), curve="pFedMoAP", x=lam) for lam in LAMBDAS]
    return build_grid("figure4", profile, rows, _label_disjoint(profile), seeds, methods, overrides, axis="λ")


GRIDS = {grid.__name__: grid for grid in (table1, table2, table3, table4, table5, table6, table7, table8, figure3,
                                          figure4)}


def _column(title: str, profile: str, **details: Any) -> Column:
    real, embedded = STAND_INS[title]
    return Column(title, real if profile == "paper" else embedded, **details)


def _label_disjoint(profile: str) -> tuple[Column, ...]:
    columns = tuple(_column(title, profile) for title in ("Flowers102", "OxfordPets", "Food101", "Caltech101", "DTD"))
    # Two sets are enough to see that everything runs.
    return (columns[0], columns[-1]) if profile == "smoke" else columns


def _domainnet(profile: str) -> tuple[Column, ...]:
    titles = "Clipart", "Infograph", "Painting", "Quickdraw", "Real", "Sketch"
    shown = "clipart", "infograph", "painting", "quickdraw", "photo", "sketch"
    names = {title: (k, name) for k, (title, name) in enumerate(zip(titles, shown, strict=True))}
    return _domains("DomainNet", profile, names)


def _domains(title: str, profile: str, names: dict[str, tuple[int, str]]) -> tuple[Column, ...]:
    """One column per domain, and their average. `names`: title -> the stand-in's place among its domains, and name."""
    real, embedded = STAND_INS[title]
    dataset = real if profile == "paper" else embedded
    domains = [Column(domain, dataset, name, (k if profile == "paper" else own, len(names)))
               for k, (domain, (own, name)) in enumerate(names.items())]
    return *domains, Column("Average", dataset, "average")


def _with_released(*rows: Row) -> tuple[Row, ...]:
    """The rows, then each again under the released code's protocol, then the controls and the plain classifiers."""
    again = [Row(f"{row.title}, released protocol", row.method, row.published, settings={"protocol": RELEASED},
                 released=row.title) for row in rows]
    return *rows, *again, *CONTROLS, *CLASSIFIERS
