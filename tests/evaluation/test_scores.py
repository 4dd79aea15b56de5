"""Every number against scikit-learn, and what is excluded."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics

from openeo_cloudmask.classes import ALCD, FOUR_CLASS, SCHEMES, VALID_INVALID, OutputStyle
from openeo_cloudmask.errors import OptionError, ReferenceDataError
from openeo_cloudmask.evaluation.cases import (
    Case,
    Distance,
    Pair,
    class_rim,
    dilate_labels,
    parse_distance,
    plan_cases,
    score_pair,
)
from openeo_cloudmask.evaluation.risk import measure_reliability
from openeo_cloudmask.evaluation.scores import Confusion, count_confusion, measure

TOLERANCE = 1e-12


def _labels(seed: int, shares: list[float], size: int = 4000) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return rng.choice(len(shares), size=size, p=shares).astype(np.uint8)


def _same(ours: float, theirs: float) -> None:
    if math.isnan(theirs):
        assert math.isnan(ours)
    else:
        assert abs(ours - theirs) < TOLERANCE


CASES = {
    "balanced": ([0.25] * 4, [0.25] * 4),
    "rare shadow": ([0.7, 0.2, 0.09, 0.01], [0.5, 0.3, 0.1, 0.1]),
    "class absent in mask": ([0.4, 0.3, 0.2, 0.1], [0.6, 0.4, 0.0, 0.0]),
    "class absent in reference": ([0.5, 0.5, 0.0, 0.0], [0.25] * 4),
    "class absent in both": ([0.5, 0.3, 0.0, 0.2], [0.5, 0.3, 0.0, 0.2]),
    "one class": ([1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("weighted", [False, True])
def test_every_number_equals_scikit_learn(name: str, *, weighted: bool) -> None:
    truth, guess = (_labels(seed, shares) for seed, shares in enumerate(CASES[name]))
    weights = np.random.default_rng(7).random(truth.size) if weighted else None
    scores = count_confusion(truth, guess, FOUR_CLASS, weights=weights).scores()
    options = {"sample_weight": weights}
    labels = list(FOUR_CLASS.values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of classes that do not occur
        matrix = metrics.confusion_matrix(truth, guess, labels=labels, **options)
        precision, recall, f1, support = metrics.precision_recall_fscore_support(
            truth, guess, labels=labels, zero_division=np.nan, **options
        )
        f2 = metrics.fbeta_score(
            truth, guess, beta=2, labels=labels, average=None, zero_division=0, **options
        )
        jaccard = metrics.jaccard_score(
            truth, guess, labels=labels, average=None, zero_division=0, **options
        )
        _same(scores.balanced_accuracy, metrics.balanced_accuracy_score(truth, guess, **options))
        _same(scores.overall_accuracy, metrics.accuracy_score(truth, guess, **options))
        _same(
            scores.kappa, float(metrics.cohen_kappa_score(truth, guess, labels=labels, **options))
        )
    assert np.allclose(
        count_confusion(truth, guess, FOUR_CLASS, weights=weights).counts,
        matrix,
        rtol=TOLERANCE,
        atol=0,
    )
    for index, item in enumerate(scores.classes):
        _same(item.precision, precision[index])
        _same(item.recall, recall[index])
        assert item.support == pytest.approx(support[index], rel=TOLERANCE)
        occurs = ((truth == index) | (guess == index)).any()
        _same(item.iou, jaccard[index] if occurs else math.nan)
        _same(item.f1, f1[index] if occurs else math.nan)
        _same(item.f2, f2[index] if occurs else math.nan)
        if (truth == index).any() and not (truth == index).all():
            one, other = truth == index, guess == index
            _same(item.specificity, metrics.recall_score(~one, ~other, **options))
            _same(item.balanced_accuracy, metrics.balanced_accuracy_score(one, other, **options))
        else:
            assert math.isnan(item.balanced_accuracy)
    known = np.isfinite(f1)
    _same(scores.mean_f1, float(np.mean([s.f1 for s in scores.classes if not math.isnan(s.f1)])))
    assert known.any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["balanced", "rare shadow"])
def test_numbers_equal_torchmetrics(name: str) -> None:
    """Its counts are exact; its shares are of single precision."""
    torch = pytest.importorskip("torch")
    oracle = pytest.importorskip("torchmetrics.functional.classification")
    truth, guess = (_labels(seed, shares) for seed, shares in enumerate(CASES[name]))
    scores = count_confusion(truth, guess, FOUR_CLASS).scores()
    known, given = (torch.from_numpy(labels.astype(np.int64)) for labels in (truth, guess))
    matrix = oracle.multiclass_confusion_matrix(given, known, num_classes=4)
    np.testing.assert_array_equal(count_confusion(truth, guess, FOUR_CLASS).counts, matrix.numpy())
    for key, function in (
        ("specificity", oracle.multiclass_specificity),
        ("recall", oracle.multiclass_recall),
        ("precision", oracle.multiclass_precision),
        ("f1", oracle.multiclass_f1_score),
        ("iou", oracle.multiclass_jaccard_index),
    ):
        theirs = function(given, known, num_classes=4, average="none").numpy()
        ours = [getattr(item, key) for item in scores.classes]
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    kappa = oracle.multiclass_cohen_kappa(given, known, num_classes=4)
    assert scores.kappa == pytest.approx(float(kappa), abs=1e-6)
    probability = np.random.default_rng(3).random(truth.size).astype(np.float32)
    reliability = measure_reliability(probability.astype(np.float64), truth == 1)
    ece = oracle.binary_calibration_error(
        torch.from_numpy(probability), (known == 1).long(), n_bins=10, norm="l1"
    )
    assert reliability.ece == pytest.approx(float(ece), abs=1e-6)


def test_cover_error_is_the_mask_cover_minus_the_reference_cover() -> None:
    truth = np.array([0, 0, 1, 2, 3, 0, 0, 0, 0, 0], np.uint8)
    guess = np.array([0, 1, 1, 2, 2, 0, 0, 3, 0, 0], np.uint8)
    scores = count_confusion(truth, guess, FOUR_CLASS).scores()
    assert scores.cover_reference == pytest.approx(0.2)
    assert scores.cover_mask == pytest.approx(0.4)
    assert scores.cover_error == pytest.approx(0.2)
    invalid = count_confusion(
        (truth > 0).astype(np.uint8), (guess > 0).astype(np.uint8), VALID_INVALID
    ).scores()
    assert invalid.cover_error == pytest.approx(0.2)


def test_nodata_in_either_is_excluded_and_counted() -> None:
    truth = np.array([[0, 1, 255, 255, 3, 3]], np.uint8)
    guess = np.array([[0, 255, 255, 1, 3, 0]], np.uint8)
    pair = Pair(reference=truth, reference_scheme=FOUR_CLASS, mask=guess, mask_scheme=FOUR_CLASS)
    (result,) = score_pair(pair, (Case(view=OutputStyle.FOUR_CLASS),))
    assert result.excluded.to_dict() == {
        "reference_nodata": 2,
        "mask_nodata": 1,
        "rim": 0,
        "compared": 3,
    }
    assert result.confusion.counts.sum() == 3
    assert result.confusion.scores().overall_accuracy == pytest.approx(2 / 3)


def test_empty_comparison_has_no_numbers_and_valid_json() -> None:
    nothing = np.full((3, 3), 255, np.uint8)
    scores = count_confusion(nothing, nothing, FOUR_CLASS).scores()
    assert math.isnan(scores.balanced_accuracy)
    assert scores.to_dict()["kappa"] is None
    assert scores.compared == 0


@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 199))
@settings(max_examples=25)
def test_matrices_of_parts_add_up(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    truth, guess = rng.choice([0, 1, 2, 3, 255], size=(2, 200)).astype(np.uint8)
    whole = count_confusion(truth, guess, FOUR_CLASS)
    parts = count_confusion(truth[:cut], guess[:cut], FOUR_CLASS) + count_confusion(
        truth[cut:], guess[cut:], FOUR_CLASS
    )
    assert np.array_equal(whole.counts, parts.counts)


def test_many_matrices_are_measured_as_each_alone() -> None:
    counts = np.random.default_rng(3).integers(0, 50, (20, 4, 4)).astype(float)
    counts[3] = 0
    together = measure(counts, FOUR_CLASS)
    for index, matrix in enumerate(counts):
        alone = measure(matrix, FOUR_CLASS)
        for name, value in alone.items():
            assert np.array_equal(together[name][index], value, equal_nan=True), name


def test_wrong_labels_are_told() -> None:
    good = np.zeros((2, 2), np.uint8)
    with pytest.raises(ReferenceDataError, match=r"mask holds \[9\], which are no classes"):
        count_confusion(good, np.full((2, 2), 9, np.uint8), FOUR_CLASS)
    with pytest.raises(ReferenceDataError, match="expected equal shapes"):
        count_confusion(good, np.zeros((3, 2), np.uint8), FOUR_CLASS)
    with pytest.raises(ReferenceDataError, match="of type float64"):
        count_confusion(good.astype(float), good, FOUR_CLASS)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="cannot be added"):
        _ = count_confusion(good, good, FOUR_CLASS) + count_confusion(good, good, VALID_INVALID)
    with pytest.raises(OptionError, match="has shape"):
        Confusion(scheme=FOUR_CLASS, counts=np.zeros((2, 2)))


def test_alcd_codes_are_compared_as_their_own_statistic_has_it() -> None:
    reference = np.arange(8, dtype=np.uint8)[np.newaxis]
    mask = np.full((1, 8), 3, np.uint8)
    pair = Pair(reference=reference, reference_scheme=ALCD, mask=mask, mask_scheme=FOUR_CLASS)
    results = {r.case.view: r for r in score_pair(pair, plan_cases())}
    invalid = results[OutputStyle.VALID_INVALID]
    assert invalid.excluded.reference_nodata == 1
    assert invalid.confusion.counts.tolist() == [[0, 4], [0, 3]]
    assert results[OutputStyle.CLOUD_NONCLOUD].confusion.counts.tolist() == [[5, 0], [2, 0]]


def test_dilation_is_a_disk_that_leaves_nodata_alone() -> None:
    labels = np.zeros((9, 9), np.uint8)
    labels[4, 4], labels[0, 0], labels[4, 6] = 2, 1, 255
    grown = dilate_labels(labels, 2.0)
    rows, columns = np.mgrid[:9, :9]
    disk = (rows - 4) ** 2 + (columns - 4) ** 2 <= 4
    disk[4, 6] = False
    assert np.array_equal(grown == 2, disk)
    assert grown[4, 6] == 255
    assert grown[0, 2] == 1
    assert np.array_equal(dilate_labels(labels, 0), labels)
    assert not dilate_labels(np.zeros((3, 3), np.uint8), 5).any()


def test_rim_is_on_both_sides_of_an_edge_and_not_along_nodata() -> None:
    labels = np.zeros((5, 8), np.uint8)
    labels[:, 4:] = 1
    labels[:, 0] = 255
    rim = class_rim(labels, 1.0)
    assert np.array_equal(np.flatnonzero(rim.any(axis=0)), [3, 4])
    assert np.array_equal(np.flatnonzero(class_rim(labels, 2.0).all(axis=0)), [2, 3, 4, 5])
    assert not class_rim(labels, 0).any()


def test_dilation_rim_and_weights_change_only_their_case() -> None:
    reference = np.zeros((20, 20), np.uint8)
    reference[5:15, 5:15] = 1
    mask = np.zeros((20, 20), np.uint8)
    mask[6:14, 6:14] = 1
    confidence = np.full((20, 20), 255, np.uint8)
    confidence[5:15, 5:15] = 51
    pair = Pair(
        reference=reference,
        reference_scheme=FOUR_CLASS,
        mask=mask,
        mask_scheme=FOUR_CLASS,
        confidence=confidence,
        resolution_m=60.0,
    )
    cases = plan_cases(
        views=(OutputStyle.VALID_INVALID,),
        dilate=Distance(value=90, unit="m"),
        ignore_rim=Distance(value=1),
        weighted=True,
    )
    by_name = {r.case.name: r for r in score_pair(pair, cases)}
    assert list(by_name) == [
        "valid-invalid",
        "valid-invalid, dilated 90 m",
        "valid-invalid, without rim of 1 px",
        "valid-invalid, dilated 90 m, without rim of 1 px",
        "valid-invalid, weighted by the reference",
    ]
    plain = by_name["valid-invalid"].confusion.scores()
    assert plain.of("invalid").recall == pytest.approx(0.64)
    assert by_name["valid-invalid, dilated 90 m"].confusion.scores().overall_accuracy == 1.0
    rim = by_name["valid-invalid, without rim of 1 px"]
    assert rim.confusion.scores().of("invalid").recall == 1.0
    assert rim.excluded.rim == int(class_rim(reference, 1).sum())
    assert rim.excluded.compared + rim.excluded.rim == 400
    weighted = by_name["valid-invalid, weighted by the reference"].confusion.scores()
    assert weighted.compared == pytest.approx(300 + 100 * 0.2)


def test_what_cannot_be_compared_is_told() -> None:
    labels = np.zeros((2, 2), np.uint8)
    binary = SCHEMES["cloud-noncloud"]
    pair = Pair(reference=labels, reference_scheme=ALCD, mask=labels, mask_scheme=binary)
    with pytest.raises(ReferenceDataError, match="none of the views asked for"):
        score_pair(pair, (Case(view=OutputStyle.VALID_INVALID),))
    with pytest.raises(ReferenceDataError, match="no confidence to weight by"):
        score_pair(pair, (Case(view=OutputStyle.CLOUD_NONCLOUD, weighted=True),))
    metres = Case(view=OutputStyle.CLOUD_NONCLOUD, dilate=Distance(value=60, unit="m"))
    with pytest.raises(OptionError, match="has no georeference"):
        score_pair(pair, (metres,))
    with pytest.raises(ReferenceDataError, match="expected one grid"):
        score_pair(
            Pair(
                reference=labels,
                reference_scheme=ALCD,
                mask=np.zeros((3, 3), np.uint8),
                mask_scheme=binary,
            ),
            plan_cases(),
        )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2", (2, "px")), ("2.5px", (2.5, "px")), (" 120 m ", (120, "m")), ("0", (0, "px"))],
)
def test_distances_are_parsed(text: str, expected: tuple[float, str]) -> None:
    distance = parse_distance(text)
    assert (distance.value, distance.unit) == expected


@pytest.mark.parametrize("text", ["", "-1", "2 km", "px", "nan"])
def test_wrong_distances_are_told(text: str) -> None:
    with pytest.raises(OptionError, match="such as 2px or 120m"):
        parse_distance(text)
