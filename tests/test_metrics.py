"""Metrics against slow loops, other libraries and known values."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from eval.metrics.accuracy import correct, load_classifier
from eval.metrics.clip_score import clip_scores
from eval.metrics.estimates import mean_iou_of, mean_of, median_of
from eval.metrics.features import InceptionFeatures, load_extractor
from eval.metrics.frechet import csfid, fid, sfid
from eval.metrics.masks import dilated, grid_ceiling, mask_iou, resized
from eval.metrics.naming import metric_name
from eval.metrics.perceptual import PairDistance, load_distance
from eval.metrics.pixels import change, pixels_of, psnr
from eval.metrics.segmentation import class_ious, confusion, mean_iou
from simat.errors import EncoderError, ImageError, QueryError, SimatError

MASKS = arrays(bool, (4, 6))
MAPS = arrays(np.int64, (5, 4), elements=st.sampled_from([0, 1, 2, 255]))


def noise(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8))


def test_metric_from_another_extractor_never_carries_the_bare_name() -> None:
    assert metric_name("LPIPS", "alex") == "LPIPS"
    assert metric_name("LPIPS", "efficientnet") == "LPIPS on efficientnet"
    assert metric_name("FID", "inception") == "FID"
    assert metric_name("mIoU", "segmenter") == "mIoU on segmenter"


@given(MASKS, MASKS)
def test_mask_iou_is_the_count_of_pixels(one: np.ndarray, other: np.ndarray) -> None:
    both = either = 0
    for a, b in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True):
        both, either = both + (a and b), either + (a or b)
    assert mask_iou(one, other) == pytest.approx(both / either if either else 1)


@given(MASKS)
def test_ceiling_is_the_best_of_all_masks_of_the_grid(truth: np.ndarray) -> None:
    cells = [(row, column) for row in range(2) for column in range(3)]
    best = 0.0
    for count in range(len(cells) + 1):
        for chosen in combinations(cells, count):
            mask = np.zeros((4, 6), bool)
            for row, column in chosen:
                mask[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = True
            best = max(best, mask_iou(mask, truth))
    assert grid_ceiling(truth, (2, 3)) == pytest.approx(best)


def test_ceiling_refuses_a_grid_that_does_not_divide() -> None:
    with pytest.raises(ImageError, match="does not divide the mask; got 4 × 6"):
        grid_ceiling(np.ones((4, 6), bool), (3, 3))


@given(MASKS, st.integers(0, 3))
def test_dilation_reaches_every_pixel_near_a_true_one(mask: np.ndarray, radius: int) -> None:
    true = np.argwhere(mask)
    slow = [
        [bool(len(true)) and bool((np.abs(true - (row, column)).max(1) <= radius).any()) for column in range(6)]
        for row in range(4)
    ]
    np.testing.assert_array_equal(dilated(mask, radius), slow)


def test_masks_are_resized_by_whole_cells() -> None:
    np.testing.assert_array_equal(resized(np.array([[True, False]]), (2, 4)), [[True, True, False, False]] * 2)


@given(MAPS, MAPS)
def test_mean_iou_is_that_of_a_loop_over_classes(truth: np.ndarray, predicted: np.ndarray) -> None:
    labelled = truth != 255
    ious = []
    for c in range(3):
        true, guess = (truth == c) & labelled, (predicted == c) & labelled
        if true.any():
            ious.append((true & guess).sum() / (true | guess).sum())
    found = mean_iou([confusion(truth, predicted, 3)])
    assert found == pytest.approx(np.mean(ious)) if ious else math.isnan(found)


@given(MAPS, MAPS)
def test_confusion_of_pictures_adds_up(truth: np.ndarray, predicted: np.ndarray) -> None:
    halves = [confusion(truth[rows], predicted[rows], 3) for rows in (slice(0, 2), slice(2, 5))]
    np.testing.assert_array_equal(sum(halves), confusion(truth, predicted, 3))


def test_unlabelled_pixels_count_nowhere_and_strange_guesses_are_misses() -> None:
    truth, predicted = np.array([[0, 0, 255, 1]]), np.array([[0, 9, 0, 1]])
    assert class_ious(confusion(truth, predicted, 2)) == {0: 0.5, 1: 1.0}
    with pytest.raises(ImageError, match="not one of 1"):
        confusion(truth, predicted, 1)


def test_fid_is_that_of_a_general_matrix_root() -> None:
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(60, 8)) @ rng.normal(size=(8, 8)), rng.normal(1, 2, size=(50, 8))
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    gap = np.square(one.mean(0) - other.mean(0)).sum()
    expected = gap + np.trace(first + second - 2 * np.real(sqrtm(first @ second)))
    assert fid(one, other) == pytest.approx(expected, rel=1e-8)
    assert fid(one, one) == pytest.approx(0, abs=1e-8)


def test_fid_is_that_of_torch_fidelity_on_the_same_features() -> None:
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(40, 6)), rng.normal(0.5, 1.5, size=(30, 6))
    statistics = [fid_features_to_statistics(torch.from_numpy(features)) for features in (one, other)]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert fid(one, other) == pytest.approx(theirs, rel=1e-6)


def test_fid_needs_two_pictures() -> None:
    with pytest.raises(QueryError, match="two pictures or more on either side; got 1"):
        fid(np.ones((1, 3)), np.ones((5, 3)))


def test_sfid_is_fid_of_features_that_do_not_covary() -> None:
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(4000, 3)) * (1, 2, 3), 1 + rng.normal(size=(4000, 3))
    assert sfid(one, other) == pytest.approx(3 + 0 + 1 + 4, abs=0.6)
    assert sfid(one, other) == pytest.approx(fid(one, other), rel=0.02)
    assert sfid(one, other, "mean") == pytest.approx(np.square(one.mean(0) - other.mean(0)).sum())


def test_csfid_is_the_mean_over_target_classes() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(9, 2)), rng.normal(size=(12, 2))
    targets, classes = ["a"] * 3 + ["b"] * 6, ["b", "a", "c"] * 4
    parts = [sfid(one[:3], other[1::3]), sfid(one[3:], other[::3])]
    assert csfid(one, targets, other, classes) == pytest.approx(np.mean(parts))
    with pytest.raises(QueryError, match="no real pictures; got d"):
        csfid(one, ["d"] * 9, other, classes)


def test_change_looks_only_where_it_is_told() -> None:
    one, other = np.zeros((2, 2, 3)), np.zeros((2, 2, 3))
    other[0, 0] = 0.5
    assert change(one, other) == pytest.approx(0.125)
    assert change(one, other, np.array([[False, True], [True, True]])) == 0
    assert math.isnan(change(one, other, np.zeros((2, 2), bool)))
    with pytest.raises(ImageError, match="different sizes"):
        change(one, np.zeros((3, 2, 3)))


def test_psnr_is_that_of_scikit_image() -> None:
    from skimage.metrics import peak_signal_noise_ratio

    one, other = pixels_of(noise(1)), pixels_of(noise(2))
    assert psnr(one, other) == pytest.approx(peak_signal_noise_ratio(one, other, data_range=1))
    assert psnr(one, one) == math.inf


def test_clip_score_is_a_hundred_times_the_cosine() -> None:
    from helpers import ColourEncoder, plain

    encoder = ColourEncoder()
    scores = clip_scores(encoder, [plain("red")] * 3, ["red", "blue", "red"])
    cosine = float((encoder.encode_texts(["red"]) @ encoder.encode_texts(["blue"]).T)[0, 0])
    np.testing.assert_allclose(scores, [100, 100 * cosine, 100], rtol=1e-5)


def test_accuracy_takes_the_best_of_the_allowed_classes() -> None:
    logits = np.array([[9.0, 1, 2], [9, 3, 2], [0, 1, 5]])
    np.testing.assert_array_equal(correct(logits, np.array([2, 2, 2]), (1, 2)), [True, False, True])


def test_offline_classifier_knows_a_real_cat() -> None:
    from skimage import data

    classifier = load_classifier("efficientnet")
    logits = classifier.logits([Image.fromarray(data.chelsea()), noise(0)])
    assert logits.shape == (2, 1000)
    assert correct(logits, np.array([281, 281]), (281, 151, 340)).tolist()[0]  # tabby, not Chihuahua, not zebra


def test_lpips_sees_pairs_at_256_pixels_as_its_package_does() -> None:
    import lpips
    import torch

    network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    pairs = [(noise(0, (256, 256)), noise(1, (256, 256))), (noise(2, (256, 256)),) * 2]
    tensors = [
        torch.stack([torch.from_numpy(np.array(pair[n])).permute(2, 0, 1) / 127.5 - 1 for pair in pairs])
        for n in (0, 1)
    ]
    with torch.inference_mode():
        expected = 100 * network(*tensors).flatten().numpy()
    ours = PairDistance("alex", lambda one, other: network(one, other, normalize=True))
    found = ours([p[0] for p in pairs], [p[1] for p in pairs])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert found[1] == 0
    with pytest.raises(QueryError, match="between pairs; got 1 and 0 pictures"):
        ours([noise(0)], [])


def test_offline_distance_grows_with_noise() -> None:
    from skimage import data

    photo = data.chelsea()[:256, :256]
    steps = [np.clip(photo + np.random.default_rng(0).normal(0, s, photo.shape), 0, 255) for s in (0, 10, 60)]
    pictures = [Image.fromarray(step.astype(np.uint8)) for step in steps]
    distance = load_distance("efficientnet")
    found = distance([Image.fromarray(photo)] * 3, pictures)
    assert distance.name == "efficientnet"
    assert found[0] == 0
    assert found[0] < found[1] < found[2]
    with pytest.raises(SimatError, match=r"no such perceptual distance; got 'none'"):
        load_distance("none")


def test_inception_sees_what_a_filter_without_aliasing_leaves() -> None:
    import torch

    seen = []

    def network(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch)
        return batch.float().mean((2, 3))

    stripes = np.zeros((600, 600, 3), np.uint8)
    stripes[:, ::2] = 255
    features = InceptionFeatures(network)([Image.fromarray(stripes)])
    assert seen[0].shape == (1, 3, 299, 299)
    assert seen[0].dtype == torch.uint8
    np.testing.assert_allclose(features, 127.5, atol=1)
    assert float(seen[0].float()[..., 10:-10].std()) < 3  # grey, not stripes


def test_extractors_are_encoders_of_images_and_say_their_names() -> None:
    extractor = load_extractor("efficientnet")
    assert extractor.name == "efficientnet"
    assert extractor([noise(0)]).shape == (1, 1280)
    with pytest.raises(EncoderError, match="no such encoder"):
        load_extractor("nobody")


def test_estimates_hold_the_value_between_their_ends() -> None:
    values = np.array([0.0, 1, 1, 1, np.nan])
    mean, median = mean_of(values), median_of(values)
    assert mean is not None
    assert median is not None
    assert (mean.value, median.value) == (0.75, 1.0)
    assert mean.low <= 0.75 <= mean.high
    assert (mean.low, mean.high) == (0.25, 1.0)
    assert mean_of(np.array([np.nan])) is None


def test_interval_of_the_mean_is_near_that_of_the_normal_law() -> None:
    found = mean_of(np.random.default_rng(0).normal(size=4000), draws=4000)
    assert found is not None
    assert (found.high - found.low) / 2 == pytest.approx(1.96 / math.sqrt(4000), rel=0.08)


def test_interval_of_miou_draws_whole_pictures() -> None:
    perfect = confusion(np.zeros((2, 2), int), np.zeros((2, 2), int), 1)
    wrong = confusion(np.zeros((2, 2), int), np.ones((2, 2), int), 1)
    found = mean_iou_of([perfect, wrong])
    assert found is not None
    assert found.value == 0.5
    assert found.low == 0.0
    assert found.high == 1.0
    assert mean_iou_of([]) is None
