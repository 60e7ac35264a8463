"""How many bits of each factor a model's products keep, by torch's names; needs no torch."""

from typing import Literal

Precision = Literal["float32", "bfloat16"]
