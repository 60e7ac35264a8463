"""The pictures of a mask that CLIP is shown."""

import numpy as np
import pytest

from engine import rle
from engine.clip.views import ViewsConfig, crops, shown
from engine.rle import Rle

GREY = 128


def scene(*, x0: int = 40, y0: int = 30) -> tuple[np.ndarray, Rle]:
    """A red box of 20 x 10 pixels on green ground, cut off by the image's edges."""
    image = np.zeros((100, 120, 3), np.uint8)
    image[:] = (0, 200, 0)
    mask = np.zeros((100, 120), bool)
    mask[max(y0, 0) : y0 + 10, max(x0, 0) : x0 + 20] = True
    image[mask] = (200, 0, 0)
    return image, rle.encode_one(mask)


def is_red(view: np.ndarray) -> np.ndarray:
    return (view[..., 0] > 100) & (view[..., 1] < 100)


def test_the_mask_fills_the_tight_view_and_is_in_its_middle() -> None:
    image, mask = scene()
    (tight,) = crops(image, mask, ViewsConfig(views=("tight",), margin=0.0), 40)
    assert tight.shape == (40, 40, 3)
    red = is_red(tight)
    assert red.mean() == pytest.approx(0.5, abs=0.03)
    assert red[10:30].all()


def test_context_shows_more_around_it() -> None:
    image, mask = scene()
    views = ViewsConfig(views=("context", "tight"), margin=0.0, context=4.0)
    context, tight = crops(image, mask, views, 40)
    shares = [float(is_red(view).mean()) for view in (context, tight)]
    assert shares[0] * 16 == pytest.approx(shares[1], rel=0.2)


def test_the_background_goes_and_the_mask_stays() -> None:
    image, mask = scene()
    tight, grey, blur = crops(image, mask, ViewsConfig(views=("tight", "grey", "blur")), 64)
    inside = tight[..., 0] > 190
    assert inside.any()
    for view in (grey, blur):
        assert np.abs(view[inside].astype(int) - tight[inside]).max() <= 10
    assert (grey[0] == GREY).all()
    assert (np.abs(blur[0].astype(int) - (0, 200, 0)) <= 12).all()


@pytest.mark.parametrize(("x0", "y0"), [(-5, -4), (115, 95), (0, 45)])
def test_beyond_the_image_there_is_grey(x0: int, y0: int) -> None:
    image, mask = scene(x0=x0, y0=y0)
    views = ViewsConfig(views=("tight", "context", "grey"), context=8.0)
    tight, context, grey = crops(image, mask, views, 32)
    assert (context == GREY).all(axis=2).any()
    assert is_red(tight).any()
    assert is_red(grey).any()


def test_a_view_is_as_if_the_whole_image_had_been_scaled() -> None:
    random = np.random.default_rng(0)
    image = np.repeat(np.repeat(random.integers(0, 255, (25, 30, 3), np.uint8), 4, 0), 4, 1)
    mask = np.zeros((100, 120), bool)
    mask[40:60, 40:60] = True
    (tight,) = crops(image, rle.encode_one(mask), ViewsConfig(views=("tight",), margin=0.0), 20)
    assert (tight == image[40:60, 40:60]).all()


def test_one_pixel_and_a_whole_image_are_masks_too() -> None:
    image = np.full((50, 40, 3), 77, np.uint8)
    one, whole = np.zeros((50, 40), bool), np.ones((50, 40), bool)
    one[49, 39] = True
    for mask in (one, whole):
        for view in crops(image, rle.encode_one(mask), ViewsConfig(), 32):
            assert (view[12:20, 12:20] == 77).all()


def test_what_is_no_mask_of_the_image_is_refused() -> None:
    image, mask = scene()
    with pytest.raises(ValueError, match="mask: must be of an image"):
        crops(image[1:], mask, ViewsConfig(), 32)
    empty = rle.encode_one(np.zeros((100, 120), bool))
    with pytest.raises(ValueError, match="mask: must not be empty"):
        crops(image, empty, ViewsConfig(), 32)


def test_attention_is_the_tight_view_and_where_the_mask_is() -> None:
    image, mask = scene()
    views = ViewsConfig(views=("attention", "tight"))
    attention, tight = shown(image, mask, views, 64)
    assert attention.inside is not None
    assert tight.inside is None
    assert (attention.pixels == tight.pixels).all()
    assert (is_red(attention.pixels) == (attention.inside > 127)).mean() > 0.98
    with pytest.raises(ValueError, match=r"^views: attention is no picture"):
        crops(image, mask, views, 64)
    assert views.as_pictures() == ViewsConfig(views=("tight",))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("views", ()),
        ("views", ("tight", "tight")),
        ("views", ("wide",)),
        ("margin", -0.1),
        ("context", 0.5),
    ],
)
def test_settings_that_mean_nothing_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{field}: must"):
        ViewsConfig(**{field: value})
