"""How well any attack can do against what is (epsilon, delta)-differentially private.

Whatever else the adversary knows, unless that was made of the same images. What a client is sent is made of its earlier
uploads, among others, and its next upload of that: a bound on one upload takes what was sent as given and says what the
upload adds, and every attack after the first round is one on all of the client's uploads together.
"""

import math

from scipy.stats import norm

from pfedmoap.privacy import Privacy


def auc_bound(epsilon: float, delta: float) -> float:
    """The largest area under the ROC curve that (epsilon, delta)-differential privacy leaves to any attack.

    A test of one false-positive rate a has a power of at most min(e^epsilon a + delta, 1 - e^-epsilon (1 - delta - a))
    (Kairouz, Oh and Viswanath 2015); the area under that curve is 1 - (1 - delta)^2 / (1 + e^epsilon).
    """
    return 1 - (1 - delta) ** 2 / (1 + math.exp(min(epsilon, 700.0)))


def gaussian_auc(shift: float, uploads: int = 1) -> float:
    """The same for the Gaussian mechanism itself, which leaves less than its epsilon and delta say.

    Two normal distributions of standard deviation 1 whose means are `shift` apart have the area Phi(shift / sqrt(2));
    n of them together are one of the shift sqrt(n) (Dong, Roth and Su 2022).

    Args:
        shift: sensitivity over the noise's standard deviation.
        uploads: how many of a client's uploads the adversary has.
    """
    return float(norm.cdf(shift * math.sqrt(uploads / 2)))


def shift(privacy: Privacy, uploads: int) -> float:
    """Sensitivity over the noise's standard deviation for one upload; infinity where there is no noise."""
    sigma = privacy.sigma(1.0, uploads)
    return 1 / sigma if sigma else math.inf
