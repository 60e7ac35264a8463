"""An add-on for texts on disk: safetensors and a card that says what it belongs to."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save

from engine.model.integrity import WeightsError
from engine.model.sam import PromptableSam
from engine.model.text.card import TextCard, read_text_card, write_text_card
from engine.model.text.prompted import TextEmbedder, TextPrompted
from engine.model.text.reader import TextReader


def shipped_text() -> Path:
    """The add-on for the default model and `nano-clip`."""
    return Path(__file__).parents[1] / "shipped" / "nano-text.safetensors"


def text_to_bytes(text: TextPrompted, *, dtype: torch.dtype = torch.float16) -> bytes:
    """The weights as a safetensors file; the same weights give the same bytes."""
    return save(
        {name: value.to("cpu", dtype).contiguous() for name, value in text.state_dict().items()}
    )


def write_text(path: Path, data: bytes, card: TextCard) -> None:
    """Put what `text_to_bytes` made in a file with its card; raises WeightsError for another's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    write_text_card(path, card)


def load_text(path: Path, model: PromptableSam, clip: TextEmbedder) -> TextReader:
    """The add-on in `path`, which answers for `model` and `clip`; raises as `load_prompted`."""
    return TextReader(load_prompted(path, model, clip), clip, encoder_id=model.encoder_id())


def load_prompted(path: Path, model: PromptableSam, clip: TextEmbedder) -> TextPrompted:
    """The add-on in `path` for `model` and `clip`, float32.

    Raises WeightsError without the file or its card, or where it was trained for another image
    encoder or another CLIP.
    """
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such file; train text prompts by python -m engine.training.pretrain_text"
        )
    card = read_text_card(path)
    encoder_id = model.encoder_id()
    if card.encoder_id != encoder_id:
        raise WeightsError(
            f"{path}: encoder_id must be {encoder_id}, the model's, but is {card.encoder_id}; "
            "take the model that it was trained for, or train text prompts for this one"
        )
    if card.clip_fingerprint != clip.fingerprint:
        raise WeightsError(
            f"{path}: clip_fingerprint must be {clip.fingerprint}, the CLIP's, but is "
            f"{card.clip_fingerprint}; take the CLIP that it was trained with, or train anew"
        )
    text = TextPrompted(model, card.clip_dim)
    try:
        tensors = parse(path.read_bytes())
        text.load_state_dict({name: value.float() for name, value in tensors.items()})
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(f"{path}: not an add-on for texts: {reason}; train it anew") from error
    return text


def text_card(text: bytes, model: PromptableSam, clip: TextEmbedder, **known: object) -> TextCard:
    """The card of `text_to_bytes`'s `text`, trained for `model` with `clip`."""
    values = {
        "encoder_id": model.encoder_id(),
        "clip_fingerprint": clip.fingerprint,
        "clip_dim": clip.dim,
        "sha256": hashlib.sha256(text).hexdigest(),
        **known,
    }
    return TextCard(**values)  # type: ignore[arg-type] # checked by the card
