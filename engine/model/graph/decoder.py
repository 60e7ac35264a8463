"""A model's prompt encoder and mask decoder as an ONNX graph, to decode where there is no torch.

A page keeps the embedding of its image and answers each click by itself. Whatever hangs on the side
of the frame alone is a constant of the graph, so there is one for each side; only the number of
points is open. Built by hand: torch's exporter takes half a minute, patches torch for the whole
process meanwhile, and its graph has nearly twice the nodes and takes twice the time.
"""

import torch
from onnx import TensorProto

from engine.model.graph.attention import transformed
from engine.model.graph.masks import drawn, predicted_iou
from engine.model.graph.nodes import Nodes, Shape, Value
from engine.model.graph.prompts import Asked, PromptNodes
from engine.model.mask_decoder import RefinedMaskDecoder
from engine.model.prompt_encoder import ClickMapPromptEncoder
from engine.model.sam import PromptableSam

REVISION = 1
"""Of the graph's inputs, outputs and function for given weights; whoever changes them raises it."""

_POINTS = "num_points"


def sides(model: PromptableSam) -> tuple[int, ...]:
    """Of the frames that the model sees: its own, and that of a closer look where it takes one."""
    closer = () if model.closer_look is None else (model.closer_look.side,)
    return tuple(dict.fromkeys((model.side, *closer)))


@torch.inference_mode()
def decoder_graph(model: PromptableSam, side: int) -> bytes:
    """The ONNX graph that decodes a prompt on a frame of `side`, for a model of nano's kind.

    Takes `features` (1, C, h, w), `skip_2x` (1, C/4, 2h, 2w), `skip_4x` (1, C/8, 4h, 4w), `points`
    (1, K, 2) and `labels` (1, K) int64 as `Prompts.to_tensors` gives them, `mask_logits`
    (1, 1, 4h, 4w) within +-16, zeros where there are none, and `has_mask` (1,) 1 or 0; gives
    `logits` (1, 4, 4h, 4w) and `iou` (1, 4), which may pass 1. float32 but for `labels`. Raises
    ValueError for a side that the model does not see, and for a model of another kind.
    """
    encoder, decoder = model.prompt_encoder, model.mask_decoder
    if not (isinstance(encoder, ClickMapPromptEncoder) and isinstance(decoder, RefinedMaskDecoder)):
        raise ValueError(f"model: must be of nano's kind, but its decoder is {type(decoder)}")
    if side not in sides(model):
        raise ValueError(f"side: must be one of {sides(model)}, but got {side}")
    nodes, cells = Nodes(), side // encoder.stride
    prompt = PromptNodes(
        nodes, encoder, cells, Asked("points", "labels", "mask_logits", "has_mask")
    )
    rows = nodes.turned(nodes.reshaped("features", encoder.embed_dim, cells * cells), 1, 0)
    own_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = nodes.add("Concat", nodes.constant(own_tokens), prompt.tokens(), axis=0)
    places = encoder.places(cells)[0].flatten(1).T
    cell_rows = nodes.add("Add", rows, prompt.dense())
    hidden, attended = transformed(nodes, decoder.transformer, cell_rows, places, tokens)
    logits = drawn(
        nodes,
        decoder,
        cells,
        hidden,
        attended,
        prompt.fine_maps(),
        encoder.fine_proj,
        ("skip_2x", "skip_4x"),
    )
    iou = predicted_iou(nodes, decoder, hidden, logits, 4 * cells)
    return nodes.to_bytes(_inputs(int(encoder.embed_dim), cells), _outputs(logits, iou, cells))


def _inputs(channels: int, cells: int) -> dict[str, tuple[Shape, int]]:
    shapes: dict[str, Shape] = {
        "features": (1, channels, cells, cells),
        "skip_2x": (1, channels // 4, 2 * cells, 2 * cells),
        "skip_4x": (1, channels // 8, 4 * cells, 4 * cells),
        "points": (1, _POINTS, 2),
        "labels": (1, _POINTS),
        "mask_logits": (1, 1, 4 * cells, 4 * cells),
        "has_mask": (1,),
    }
    integer, real = int(TensorProto.INT64), int(TensorProto.FLOAT)
    return {name: (shape, integer if name == "labels" else real) for name, shape in shapes.items()}


def _outputs(logits: Value, iou: Value, cells: int) -> dict[Value, tuple[str, Shape]]:
    return {logits: ("logits", (1, 4, 4 * cells, 4 * cells)), iou: ("iou", (1, 4))}
