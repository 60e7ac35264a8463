"""segment_anything's own modules, on which ours are built, without the rest of its package.

Its package also imports a predictor, which imports torchvision and with it torch's compiler: more
seconds than torch itself takes, at each start of a process that never asks for either.
"""

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

_PACKAGE = "segment_anything"
_NAME = f"{_PACKAGE}.modeling"


def _load() -> None:
    """Load its layers under their own name: who imports the package later gets the same classes."""
    package = find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise ModuleNotFoundError(f"{_PACKAGE}: not installed; run: make setup", name=_PACKAGE)
    spec = spec_from_file_location(
        _NAME, Path(package.origin).with_name("modeling") / "__init__.py"
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[_NAME] = module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[_NAME]
        raise


if _NAME not in sys.modules:
    _load()

from segment_anything.modeling import (  # noqa: E402 (loaded above)
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
    image_encoder,
)
from segment_anything.modeling.common import LayerNorm2d  # noqa: E402 (loaded above)
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock  # noqa: E402 (loaded above)

__all__ = [
    "Attention",
    "ImageEncoderViT",
    "LayerNorm2d",
    "MaskDecoder",
    "PromptEncoder",
    "Sam",
    "TwoWayAttentionBlock",
    "TwoWayTransformer",
    "image_encoder",
]
