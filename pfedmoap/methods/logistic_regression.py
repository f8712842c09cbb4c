"""Logistic regression on image features, each client alone: CLIP's own linear probe (Radford et al. 2021)."""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch

from pfedmoap.errors import require
from pfedmoap.method import Context, OwnImages
from pfedmoap.methods.classifier import Classifier, Linear, only


@dataclass(frozen=True)
class LogisticRegression(Classifier):
    """scikit-learn's L2-regularised logistic regression of the client's own classes: multinomial, of two binomial.

    Classes that the client has no training images of are never answered (their logits are -inf); with a single class
    there is nothing to fit, and it is always answered.

    Attributes:
        inverse_penalty: C of scikit-learn: how little the weights are held near zero (100; its 1 is too little for
            features of length 1 and clients with many classes, as validation draws of the embedded sets say).
    """

    name: ClassVar[str] = "logistic_regression"
    title: ClassVar[str] = "Logistic regression"
    inverse_penalty: float = 100.0

    def __post_init__(self):
        require(self, {"inverse_penalty": (self.inverse_penalty > 0, "a number > 0")}, "logistic_regression's ")

    def fit(self, images: OwnImages, context: Context) -> Linear:
        from sklearn import linear_model  # takes a second, which other methods need not wait for

        features, classes = images.features.double(), images.labels.unique()
        weights, bias = features.new_zeros(len(classes), features.shape[1]), features.new_zeros(len(classes))
        if len(classes) > 1:
            found = linear_model.LogisticRegression(C=self.inverse_penalty, tol=1e-8, max_iter=10_000)
            with warnings.catch_warnings():  # that classes with an image or two are numbers to be regressed
                warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
                found.fit(features.cpu().numpy(), images.labels.cpu().numpy())
            weights, bias = (torch.from_numpy(part).to(features) for part in (found.coef_, found.intercept_))
            if len(classes) == 2:  # it has one row, the second class's lead over the first
                weights, bias = (torch.cat([-part, part]) / 2 for part in (weights, bias))
        return only(classes, Linear(weights, bias), len(context.handwritten))
