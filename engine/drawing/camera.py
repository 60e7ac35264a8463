"""From a painted board to the file that a camera would have saved."""

from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Array = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


def pixels(planes: Array) -> Pixels:
    """(3, H, W) in 0..1 -> (H, W, 3) uint8."""
    scaled = np.clip(planes * np.float32(255) + np.float32(0.5), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(scaled, 0, -1))


def blurred(planes: Array, radius: float) -> Array:
    """(3, H, W) after a Gaussian blur, by way of 8 bits."""
    image = Image.fromarray(pixels(planes)).filter(ImageFilter.GaussianBlur(float(radius)))
    return np.moveaxis(np.asarray(image), -1, 0).astype(np.float32) / np.float32(255)


def toned(random: np.random.Generator, planes: Array) -> Array:
    """Exposure, gamma and white balance of a camera that guesses."""
    if random.random() < 0.6:
        bright = np.quantile(planes[:, ::8, ::8], 0.97)
        planes = planes * np.float32(random.uniform(0.65, 1.1) / max(float(bright), 0.1))
    gamma = np.float32(np.exp(random.normal(0, 0.25)))
    balance = (np.exp(random.normal(0, 0.06, 3)) * random.uniform(0.8, 1.1)).astype(np.float32)
    result = np.clip(planes, 0.0, 1.0) ** gamma * balance[:, None, None]
    if random.random() < 0.08:
        result[:] = result.mean(axis=0)
    return result


def exposed(random: np.random.Generator, planes: Array, *, blur: float, noise: float) -> Pixels:
    """(H, W, 3) uint8 after the lens, the sensor and sometimes JPEG."""
    if blur > 0.25:
        planes = blurred(planes, blur)
    if noise > 0:
        grain = random.standard_normal(planes.shape, np.float32)
        if random.random() < 0.4:
            grain[:] = grain[:1]
        planes = planes + grain * np.float32(noise)
    return pixels(planes)


def compressed(image: Pixels, quality: int) -> Pixels:
    """After saving as JPEG and reading back."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer)).copy()


def ramp(random: np.random.Generator, hw: tuple[int, int]) -> Array:
    """(H, W) in about -1..1, rising along some direction."""
    x, y = np.linspace(-1, 1, hw[1], dtype=np.float32), np.linspace(-1, 1, hw[0], dtype=np.float32)
    angle = random.uniform(0, 2 * np.pi)
    return np.asarray(x * np.float32(np.cos(angle)) + y[:, None] * np.float32(np.sin(angle)))
