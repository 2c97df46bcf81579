"""The pictures: what their grades change, and what they leave alone."""

import numpy as np
import pytest

from sacro_ray.simulation.acquisition import DIGITAL, DIGITISED_FILM
from sacro_ray.simulation.anatomy import sample_anatomy
from sacro_ray.simulation.joints import grade_of, joint_attenuation, sample_appearance
from sacro_ray.simulation.radiograph import hand_drawn_box, render_radiograph

Y_MM, X_MM = (plane.astype(np.float32) for plane in np.mgrid[-30:34:1.0, 20:80:0.5])


def render(seed=1, right=0.0, left=0.0, style=DIGITAL, size_px=320):
    return render_radiograph(np.random.default_rng(seed), right, left, "female", style, size_px)


def joint_maps(severity, draws=24):
    """Attenuation near the joint of many patients, and the distance across the joint of each pixel, mm."""
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        joint = sample_anatomy(rng, "male").joints[1]
        added = joint_attenuation(rng, joint, sample_appearance(rng, severity), X_MM, Y_MM)
        yield added, X_MM - joint.line(Y_MM)


@pytest.mark.parametrize("style", [DIGITAL, DIGITISED_FILM])
def test_radiographs_are_twelve_bit_and_within_the_size_asked_for(style):
    pixels, spacing_mm = render(style=style)
    assert pixels.dtype == np.uint16
    assert pixels.max() <= 4095
    assert max(pixels.shape) <= 320
    assert 0.5 < spacing_mm < 2.0
    assert np.percentile(pixels, 95) - np.percentile(pixels, 20) > 1000


def test_the_same_seed_gives_the_same_pixels_and_another_seed_does_not():
    assert np.array_equal(render(seed=3)[0], render(seed=3)[0])
    assert render(seed=3)[0].shape != render(seed=4)[0].shape or not np.array_equal(render(seed=3)[0], render(seed=4)[0])


def test_severity_changes_the_joint_of_its_side_alone():
    # The patient's right is on the image's left.
    normal, ankylosed = render()[0].astype(int), render(right=3.0)[0].astype(int)
    _, columns = np.nonzero(np.abs(normal - ankylosed) > 60)
    assert len(columns) > 50
    assert columns.max() < normal.shape[1] / 2
    # Exposure follows the median of the whole picture, and so the rest moves by less than the eye sees.
    assert np.abs(normal - ankylosed)[:, normal.shape[1] * 6 // 10 :].max() <= 60
    assert np.ptp(columns) < normal.shape[1] / 3


def test_joint_space_is_dark_in_a_normal_joint_and_gone_after_ankylosis():
    depth = {
        severity: np.mean([added[np.abs(across) < 1].mean() for added, across in joint_maps(severity)])
        for severity in (0, 1, 2, 4)
    }
    assert depth[0] < -0.2
    assert depth[0] < depth[1] < depth[2]
    assert depth[4] > -0.02


def test_sclerosis_beside_the_joint_grows_with_the_grade_up_to_three():
    beside = [
        np.mean([added[(across > 4) & (across < 12)].mean() for added, across in joint_maps(severity)]) for severity in range(5)
    ]
    assert beside[0] < beside[1] < beside[2] < beside[3]
    assert beside[4] < beside[3]


def test_severity_within_a_grade_still_shows():
    mild, marked = (np.mean([added[across > 3].mean() for added, across in joint_maps(severity)]) for severity in (1.6, 2.4))
    assert mild < marked


def test_lesions_are_those_that_the_grade_names():
    for seed in range(40):
        looks = [sample_appearance(np.random.default_rng(seed), float(grade)) for grade in range(5)]
        assert not looks[0].erosions
        assert len(looks[1].erosions) <= 1
        assert looks[2].width_factor == looks[1].width_factor == looks[0].width_factor == 1.0
        assert len(looks[2].erosions) >= 2
        assert len(looks[3].erosions) > len(looks[2].erosions)
        assert looks[3].width_factor < 0.7 or looks[3].width_factor > 1.5
        assert looks[4].space < 0.1


@pytest.mark.parametrize(("severity", "grade"), [(0.0, 0), (0.49, 0), (0.5, 1), (1.5, 2), (2.49, 2), (3.5, 4), (4.0, 4)])
def test_grade_of_severity(severity, grade):
    assert grade_of(severity) == grade


def test_sites_look_different():
    """Digitised film is noisier in a flat region: the difference of neighbouring pixels, as share of the range."""

    def noise(style):
        values = []
        for seed in range(6):
            pixels = render(seed=seed, style=style)[0].astype(float)
            middle = pixels[pixels.shape[0] // 3 : pixels.shape[0] // 2, pixels.shape[1] // 3 : -pixels.shape[1] // 3]
            values.append(np.median(np.abs(np.diff(middle, axis=1))))
        return np.median(values)

    assert noise(DIGITISED_FILM) > 1.3 * noise(DIGITAL)


def test_the_hand_drawn_box_holds_both_joints():
    for seed in range(20):
        for style in (DIGITAL, DIGITISED_FILM):
            left, top, right, bottom = hand_drawn_box(np.random.default_rng(seed), "female", style, 400)
            grave, spacing_mm = render_radiograph(np.random.default_rng(seed), 4.0, 4.0, "female", style, 400)
            sound, _ = render_radiograph(np.random.default_rng(seed), 0.0, 0.0, "female", style, 400)
            height, width = grave.shape
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            # What differs between the two is the joints.
            rows, columns = np.nonzero(np.abs(grave.astype(int) - sound.astype(int)) > 40)
            inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
            assert inside.mean() > 0.95
            assert 100 < (right - left) * spacing_mm < 260
