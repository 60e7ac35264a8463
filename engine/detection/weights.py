"""A detector on disk: safetensors, with its config in the header, without the encoder it uses."""

import json
from dataclasses import asdict

from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save

from engine.detection.config import DetectorConfig
from engine.detection.detector import Detector
from engine.model.integrity import WeightsError
from engine.model.sam import PromptableSam

_HEADER_KEY = "maskloop detector"


def to_bytes(detector: Detector, config: DetectorConfig) -> bytes:
    """The weights as a safetensors file; the same weights give the same bytes."""
    tensors = {name: value.cpu().contiguous() for name, value in detector.state_dict().items()}
    return save(tensors, metadata={_HEADER_KEY: json.dumps(asdict(config), sort_keys=True)})


def from_bytes(data: bytes, model: PromptableSam) -> Detector:
    """The inverse of `to_bytes`, on the encoder of the model that it was trained on.

    Raises WeightsError for a file that is none, or of a detector on another kind of encoder.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        values = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_HEADER_KEY])
        config = DetectorConfig(**(values | {"crop_scale": tuple(values["crop_scale"])}))
        detector = Detector(model, config)
        detector.load_state_dict(parse(data))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"weights: not a maskloop detector ({error})") from error
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(f"weights: not a detector on this encoder: {reason}") from error
    return detector.eval()
