"""One short file per method; `METHODS` lists them by name, in the order of the paper's tables."""

from pfedmoap.method import Common, Context, Method
from pfedmoap.methods.clap import CLAP
from pfedmoap.methods.class_means import ClassMeans
from pfedmoap.methods.classifier import Classifier
from pfedmoap.methods.controls import ZeroShotOwnClasses, ZeroShotPrior
from pfedmoap.methods.coop import CoOp
from pfedmoap.methods.fedamp import FedAMP
from pfedmoap.methods.fedavg_probe import FedAvgProbe
from pfedmoap.methods.fedotp import FedOTP
from pfedmoap.methods.fedper import FedPer
from pfedmoap.methods.fedpgp import FedPGP
from pfedmoap.methods.fedprox import FedProx
from pfedmoap.methods.logistic_regression import LogisticRegression
from pfedmoap.methods.pfedmoap import PFedMoAP
from pfedmoap.methods.pfedprompt import PFedPrompt
from pfedmoap.methods.promptfl import PromptFL
from pfedmoap.methods.promptfl_ft import PromptFLFT
from pfedmoap.methods.tip_adapter import TipAdapter
from pfedmoap.methods.tip_adapter_f import TipAdapterF
from pfedmoap.methods.zero_shot import ZeroShot

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (ZeroShot, CoOp, PromptFL, PromptFLFT, FedPer, FedProx, FedAMP, PFedPrompt, FedOTP, FedPGP,
                   PFedMoAP, ZeroShotOwnClasses, ZeroShotPrior, LogisticRegression, ClassMeans, TipAdapter,
                   TipAdapterF, CLAP, FedAvgProbe)
}

__all__ = [
    "CLAP", "METHODS", "ClassMeans", "Classifier", "CoOp", "Common", "Context", "FedAMP", "FedAvgProbe", "FedOTP",
    "FedPGP", "FedPer", "FedProx", "LogisticRegression", "Method", "PFedMoAP", "PFedPrompt", "PromptFL", "PromptFLFT",
    "TipAdapter", "TipAdapterF", "ZeroShot", "ZeroShotOwnClasses", "ZeroShotPrior",
]  # fmt: skip
