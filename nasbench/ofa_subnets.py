"""Once-for-all's MobileNetV3 subnets (Cai et al., 2020) as texts: kernels, expansions, depths and pixels.

``75557…-64466…-22223-204``: a digit a block (20), a digit a block, a digit a stage (5), and the input's side. What they
compute is what a latency table of our space ``ofa-mbv3`` is regressed on.
"""

from collections.abc import Sequence

import numpy as np

from latency_tables.costs import Images
from latency_tables.features import cost_features, feature_matrix
from nasbench.benchmark import Floats
from predictors.ofa_measured import spelled_candidate
from search_spaces import MBConvSpace, get_space

SPACE = "ofa-mbv3"


def subnet_text(kernels: str, expands: str, depths: str, pixels: str) -> str:
    """Return a subnet as one text.

    Raises:
        ValueError: The digits are not as many as the space has blocks and stages.
    """
    if [len(kernels), len(expands), len(depths)] != [20, 20, 5]:
        raise ValueError(f"{len(kernels)} kernels, {len(expands)} expansions, {len(depths)} depths; allowed: 20, 20, 5")
    return f"{kernels}-{expands}-{depths}-{pixels}"


def subnet_amounts(subnets: Sequence[str]) -> tuple[Floats, tuple[str, ...]]:
    """Return what subnets compute in fp32, ``(n, amounts)``, and what each amount is.

    Raises:
        UsageError: One of them is not of the space.
    """
    space = get_space(SPACE, precisions=("fp32",))
    assert isinstance(space, MBConvSpace)
    rows = []
    for subnet in subnets:
        ks, e, d, r = subnet.split("-")
        rows.append(space.genes(spelled_candidate(ks, e, d, r, space)))
    features = cost_features(space, Images(space.preset.channels, space.preset.classes))
    return feature_matrix(features, np.stack(rows)), tuple(features)
