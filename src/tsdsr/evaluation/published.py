"""Published results: tables 1 to 7 of the paper (Dong et al., CVPR 2025, sections 4.2 to 4.4 and appendix A)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tsdsr.errors import InvalidInputError

_ALL = "psnr ssim lpips dists fid niqe musiq maniqa clipiqa"
_ABLATION = "lpips dists fid musiq maniqa clipiqa"

DATASETS = ("DRealSR", "RealSR", "DIV2K-Val")
"""Test sets of the paper; all upscale 128x128 to 512x512."""

SIZES: Mapping[str, int] = {"DRealSR": 93, "RealSR": 100, "DIV2K-Val": 3000}
"""Test set → number of images, as published by StableSR (Wang et al. 2024), whose test sets the paper uses."""


@dataclass(frozen=True)
class PublishedRow:
    """One row of a table of the paper.

    Attributes:
        table (int): table number, 1 to 7.
        dataset (str | None): one of :data:`DATASETS`; None for table 3.
        method (str): name of the method; the paper's own is "TSD-SR". A suffix such as "-4s" gives the number of steps.
        values (mapping): metric name as in :data:`tsdsr.evaluation.metrics.METRICS` → value; "steps" and "seconds" in
            table 3.
        setting (mapping): other settings that distinguish rows: "base" in table 5, "N" and "s" in table 6.
    """

    table: int
    dataset: str | None
    method: str
    values: Mapping[str, float]
    setting: Mapping[str, str] = field(default_factory=dict)


# Columns, then the name and the rows of each test set. Underscores stand for spaces.
_GROUPED: Mapping[int, tuple[str, str]] = {
    1: (
        _ALL,
        """
[DRealSR]
OSEDiff-1s  27.92  0.7836  0.2968  0.2162  135.51  6.4471  64.69  0.5898  0.6958
AddSR-1s    27.77  0.7722  0.3196  0.2242  150.18  6.9321  60.85  0.5490  0.6188
SinSR-1s    28.38  0.7497  0.3669  0.2484  172.72  6.9606  55.03  0.4904  0.6412
TSD-SR-1s   27.77  0.7559  0.2967  0.2136  134.98  5.9131  66.62  0.5874  0.7344
[RealSR]
OSEDiff-1s  25.15  0.7341  0.2920  0.2128  123.48  5.6471  69.10  0.6326  0.6687
AddSR-1s    24.79  0.7077  0.3091  0.2191  132.05  5.5440  66.18  0.6098  0.5722
SinSR-1s    26.27  0.7351  0.3217  0.2341  137.59  6.2964  60.76  0.5418  0.6163
TSD-SR-1s   24.81  0.7172  0.2743  0.2104  114.45  5.1298  71.19  0.6347  0.7160
[DIV2K-Val]
OSEDiff-1s  23.72  0.6109  0.2942  0.1975   26.34  4.7089  67.96  0.6131  0.6681
AddSR-1s    23.26  0.5902  0.3623  0.2123   29.68  4.7610  63.39  0.5657  0.5734
SinSR-1s    24.41  0.6018  0.3262  0.2068   35.55  5.9981  62.95  0.5430  0.6501
TSD-SR-1s   23.02  0.5808  0.2673  0.1821   29.16  4.3244  71.69  0.6192  0.7416
""",
    ),
    2: (
        _ALL,
        """
[DRealSR]
StableSR-200s  28.04  0.7454  0.3279  0.2272  144.15  6.5999  58.53  0.5603  0.6250
DiffBIR-50s    25.93  0.6525  0.4518  0.2761  177.04  6.2324  65.66  0.6296  0.6860
SeeSR-50s      28.14  0.7712  0.3141  0.2297  146.95  6.4632  64.74  0.6022  0.6893
SUPIR-50s      25.09  0.6460  0.4243  0.2795  169.48  7.3918  58.79  0.5471  0.6749
PASD-20s       27.79  0.7495  0.3579  0.2524  171.03  6.7661  63.23  0.5919  0.6242
ResShift-15s   28.69  0.7874  0.3525  0.2541  176.77  7.8762  52.40  0.4756  0.5413
AddSR-4s       26.72  0.7124  0.3982  0.2711  164.12  7.6689  66.33  0.6257  0.7226
TSD-SR-1s      27.77  0.7559  0.2967  0.2136  134.98  5.9131  66.62  0.5874  0.7344
[RealSR]
StableSR-200s  24.62  0.7041  0.3070  0.2156  128.54  5.7817  65.48  0.6223  0.6198
DiffBIR-50s    24.24  0.6650  0.3469  0.2300  134.56  5.4932  68.35  0.6544  0.6961
SeeSR-50s      25.21  0.7216  0.3003  0.2218  125.10  5.3978  69.69  0.6443  0.6671
SUPIR-50s      23.65  0.6620  0.3541  0.2488  130.38  6.1099  62.09  0.5780  0.6707
PASD-20s       25.68  0.7273  0.3144  0.2304  134.18  5.7616  68.33  0.6323  0.5783
ResShift-15s   26.39  0.7567  0.3158  0.2432  149.59  6.8746  60.22  0.5419  0.5496
AddSR-4s       23.33  0.6400  0.3925  0.2626  154.22  5.8959  71.49  0.6826  0.7225
TSD-SR-1s      24.81  0.7172  0.2743  0.2104  114.45  5.1298  71.19  0.6347  0.7160
[DIV2K-Val]
StableSR-200s  23.27  0.5722  0.3111  0.2046   24.95  4.7737  65.78  0.6164  0.6753
DiffBIR-50s    23.13  0.5717  0.3469  0.2108   33.93  4.6056  68.54  0.6360  0.7125
SeeSR-50s      23.73  0.6057  0.3198  0.1953   25.81  4.8322  68.49  0.6198  0.6899
SUPIR-50s      22.13  0.5279  0.3919  0.2312   31.40  5.6767  63.86  0.5903  0.7146
PASD-20s       24.00  0.6041  0.3779  0.2305   39.12  4.8587  67.36  0.6121  0.6327
ResShift-15s   24.71  0.6234  0.3473  0.2253   42.01  6.3615  60.63  0.5283  0.5962
AddSR-4s       22.16  0.5280  0.4053  0.2360   35.41  5.2584  70.99  0.6596  0.7593
TSD-SR-1s      23.02  0.5808  0.2673  0.1821   29.16  4.3244  71.69  0.6192  0.7416
""",
    ),
    4: (
        _ABLATION,
        """
[DRealSR]
w/o_TSM   0.3176  0.2327  139.67  63.90  0.5749  0.6958
w/o_DASM  0.3097  0.2311  143.97  63.56  0.5812  0.7123
Full      0.2967  0.2136  134.98  66.62  0.5874  0.7344
[RealSR]
w/o_TSM   0.2934  0.2397  117.15  68.56  0.6338  0.6987
w/o_DASM  0.2873  0.2273  123.51  69.05  0.6273  0.7031
Full      0.2743  0.2104  114.45  71.19  0.6347  0.7160
""",
    ),
    7: (
        _ALL,
        """
[DRealSR]
BSRGAN       28.70  0.8028  0.2858  0.2143  155.61  6.5408  57.15  0.4847  0.5091
Real-ESRGAN  28.61  0.8051  0.2818  0.2088  147.66  6.7001  54.27  0.4888  0.4521
LDL          28.20  0.8124  0.2791  0.2127  155.51  7.1448  53.94  0.4894  0.4476
FeMASR       26.87  0.7569  0.3156  0.2238  157.72  5.9067  53.70  0.4413  0.5633
TSD-SR       27.77  0.7559  0.2967  0.2136  134.98  5.9131  66.62  0.5874  0.7344
[RealSR]
BSRGAN       26.38  0.7651  0.2656  0.2123  141.24  5.6431  63.28  0.5425  0.5114
Real-ESRGAN  26.65  0.7603  0.2726  0.2065  136.29  5.8471  60.45  0.5507  0.4518
LDL          25.28  0.7565  0.2750  0.2119  142.74  5.9880  60.92  0.5494  0.4559
FeMASR       25.06  0.7356  0.2936  0.2285  141.01  5.7696  59.05  0.4872  0.5405
TSD-SR       24.81  0.7172  0.2743  0.2104  114.45  5.1298  71.19  0.6347  0.7160
[DIV2K-Val]
BSRGAN       24.58  0.6269  0.3502  0.2280   49.55  4.7501  61.68  0.4979  0.5386
Real-ESRGAN  24.02  0.6387  0.3150  0.2123   38.87  4.8271  60.38  0.5401  0.5251
LDL          23.83  0.6344  0.3256  0.2227   42.28  4.8555  60.04  0.5328  0.5180
FeMASR       22.45  0.5858  0.3370  0.2205   41.97  4.8679  57.94  0.4787  0.5769
TSD-SR       23.02  0.5808  0.2673  0.1821   29.16  4.3244  71.69  0.6192  0.7416
""",
    ),
}

_COMPLEXITY = """
StableSR    200  12.4151
DiffBIR      50   7.9637
SeeSR        50   5.8167
SUPIR        50  16.8704
PASD         20   4.8441
ResShift     15   0.7546
AddSR-4s      4   1.0199
AddSR-1s      1   0.5043
SinSR         1   0.1424
OSEDiff       1   0.1650
TSD-SR        1   0.1362
"""

_BASE_MODELS = """
AddSR    SD2-base     0.3196  0.2242  6.9321  60.85  0.6188
TSD-SR   SD2-base     0.3040  0.2234  6.2202  65.14  0.6935
OSEDiff  SD2.1-base   0.2968  0.2162  6.4471  64.69  0.6958
TSD-SR   SD2.1-base   0.2943  0.2115  5.7934  65.41  0.7109
"""

_WALK = """
2   50  0.3104  0.2327  137.64  64.49  0.5717  0.7118
4   50  0.2967  0.2136  134.98  66.62  0.5874  0.7344
8   50  0.3421  0.2633  151.64  65.73  0.5875  0.7227
4   25  0.3063  0.2201  130.74  66.19  0.5828  0.7269
4  100  0.3176  0.2230  135.54  65.23  0.5782  0.7024
"""


def published(table: int) -> tuple[PublishedRow, ...]:
    """Return all rows of a table, in the paper's order.

    1. one-step diffusion models
    2. multi-step diffusion models, and the paper's one-step model
    3. steps and seconds per image, 512x512 on an NVIDIA A100, without loading
    4. ablation: without target score matching, without distribution-aware sampling
    5. other base models, DRealSR
    6. distribution-aware sampling: number of points N and step s, DRealSR
    7. GAN-based models

    Args:
        table (int): table number, 1 to 7.

    Raises:
        InvalidInputError: The table does not exist.
    """
    if table in _GROUPED:
        return _grouped(table)
    if table == 3:
        rows = (line.split() for line in _COMPLEXITY.split("\n") if line)
        return tuple(PublishedRow(3, None, name, _values("steps seconds", cells)) for name, *cells in rows)
    if table == 5:
        rows = (line.split() for line in _BASE_MODELS.split("\n") if line)
        columns = "lpips dists niqe musiq clipiqa"
        return tuple(
            PublishedRow(5, "DRealSR", name, _values(columns, cells), {"base": base}) for name, base, *cells in rows
        )
    if table == 6:
        rows = (line.split() for line in _WALK.split("\n") if line)
        return tuple(
            PublishedRow(6, "DRealSR", "TSD-SR", _values(_ABLATION, cells), {"N": n, "s": s}) for n, s, *cells in rows
        )
    raise InvalidInputError(f"the paper has tables 1 to 7, not {table}")


def comparison(dataset: str, tables: Sequence[int] = (1, 2, 7)) -> tuple[PublishedRow, ...]:
    """Return one row for every method that the paper scores on a test set.

    Args:
        dataset (str): one of :data:`DATASETS`, case-insensitive.
        tables (sequence of int): tables to search; the first row of a method is used.

    Raises:
        InvalidInputError: The test set is unknown.
    """
    names = {name.lower(): name for name in DATASETS}
    if dataset.lower() not in names:
        raise InvalidInputError(f"no published figures for {dataset!r}; choose from {', '.join(names)}")
    found: dict[str, PublishedRow] = {}
    for table in tables:
        for row in published(table):
            if row.dataset == names[dataset.lower()]:
                found.setdefault(row.method, row)
    return tuple(found.values())


def _grouped(table: int) -> tuple[PublishedRow, ...]:
    columns, text = _GROUPED[table]
    rows, dataset = [], None
    for line in text.strip().split("\n"):
        if line.startswith("["):
            dataset = line.strip("[]")
            continue
        name, *cells = line.split()
        method = "TSD-SR" if name == "TSD-SR-1s" else name.replace("_", " ")
        rows.append(PublishedRow(table, dataset, method, _values(columns, cells)))
    return tuple(rows)


def _values(columns: str, cells: Sequence[str]) -> dict[str, float]:
    return {name: float(cell) for name, cell in zip(columns.split(), cells, strict=True)}
