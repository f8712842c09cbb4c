"""pFedMoAP: personalised federated prompt learning on a frozen CLIP (ICLR 2025). Start here.

    from pfedmoap import PFedMoAP, from_profile, run
    record = run(from_profile("nature", PFedMoAP(lam=0.5, experts=9)))

The paper, in reading order; these files need torch, open_clip and numpy alone:

1. `clip`        the frozen CLIP: weights, image features, hand-written text features
2. `prompts`     learned prompts -> text features of any text tower; `shared_prefix`: of CLIP's own, exactly and fast
3. `gating`      the attention gate that mixes prompt experts (equation 11), and Table 6's linear one
4. `method`      what a method is; `methods` has one short file for each, `methods.pfedmoap` among them
5. `client`      the local update of a cohort of clients (ClientUpdate); `graphs` repeats its steps on a GPU
6. `server`      the pool of prompts, its K nearest neighbours, the weighted average
7. `federation`  algorithm 1 on one screen: `Federation.run_round`
8. `evaluation`  all clients' tests; `privacy`: clipping and noise; `randomness`, `errors`: what these need

Around it, each room with a door of its own (`from pfedmoap.data import ...`), lower ones first: `system` (folders,
cores, processes), `data` (images, partitions, image features), `embedded` (the shipped CLIP and sets), `released` (what
the released code does differently), `audit` (checks of implementations), `beyond` (classes, clients and domains that
nobody trained on), `experiments` (runs, profiles, grids, store), `reports` (tables, figures, page), `leakage` and
`teaching` (behind notebooks 04 and 01), `flower` (a real federation), `batch` (notebooks as jobs), `commands` (the
command line).
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "clip": ["Clip", "load_clip"],
        "errors": ["PfedmoapError", "UserError"],
        "experiments": [
            "Experiment", "Personalised", "Place", "Store", "frame", "from_profile", "load_dataset", "prepare", "run",
            "run_all", "suggested_settings",
        ],
        "federation": ["Federation"],
        "method": ["Context", "Method"],
        "methods": [
            "CLAP", "METHODS", "ClassMeans", "CoOp", "FedAMP", "FedAvgProbe", "FedOTP", "FedPGP", "FedPer", "FedProx",
            "LogisticRegression", "PFedMoAP", "PFedPrompt", "PromptFL", "PromptFLFT", "TipAdapter", "TipAdapterF",
            "ZeroShot", "ZeroShotOwnClasses", "ZeroShotPrior",
        ],
        "prompts": ["PromptEncoder", "TextFeatures"],
        "released": ["PAPER", "RELEASED", "Protocol"],
        "server": ["Pool", "Server"],
    },
)  # fmt: skip
__all__ += ["__version__"]
