"""How fast prompts are decoded: our batched decoder beside segment_anything's own, same weights.

`python benchmarks/decoder.py [--json] [--quick]`. Both decode the same clicks on one image, in one
process, in turns; the figure is the ratio of their medians.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import nn

from engine.model.predictor import Predictor
from engine.model.prompts import Prompts
from engine.model.registry import ModelConfig, build_model


def stock(num: int, side: int, dim: int) -> Callable[[], object]:
    """segment_anything's prompt encoder and mask decoder, at the size of `nano`."""
    cells = side // 16
    prompt_encoder = PromptEncoder(dim, (cells, cells), (side, side), 16, nn.ReLU)
    decoder = MaskDecoder(
        transformer_dim=dim,
        transformer=TwoWayTransformer(depth=2, embedding_dim=dim, num_heads=4, mlp_dim=4 * dim),
        activation=nn.ReLU,
        iou_head_hidden_dim=dim,
    ).eval()
    image = torch.randn(1, dim, cells, cells)
    points = torch.rand(num, 1, 2) * side
    labels = torch.ones(num, 1)

    def run() -> object:
        with torch.inference_mode():
            sparse, dense = prompt_encoder((points, labels), None, None)
            return decoder(image, prompt_encoder.get_dense_pe(), sparse, dense, True)

    return run


def ours(num: int, side: int) -> Callable[[], object]:
    """`nano` as maskloop serves it, with its click maps and skips, which the other has not."""
    predictor = Predictor(build_model(ModelConfig(), seed=0), version="benchmark")
    random = np.random.default_rng(0)
    embedding = predictor.embed(random.integers(0, 255, (side, side, 3), dtype=np.uint8))
    prompts = Prompts.single_points(random.uniform(0, side, (num, 2)))
    return lambda: predictor.predict(embedding, prompts, multimask=True)


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    num, rounds = (16, 3) if options.quick else (64, 25)
    # Timed before ours asks malloc to keep freed memory, and again after: `stock_kept`.
    before = stock(num, 512, 64)
    before()
    plain = [seconds(before) for _ in range(rounds)]
    fast = ours(num, 512)
    fast()
    pairs = [(seconds(before), seconds(fast)) for _ in range(rounds)]
    result = {
        "prompts": num,
        "rounds": rounds,
        "stock_ms_per_prompt": 1000 * statistics.median(plain) / num,
        "stock_kept_ms_per_prompt": 1000 * statistics.median(a for a, _ in pairs) / num,
        "ours_ms_per_prompt": 1000 * statistics.median(b for _, b in pairs) / num,
    }
    result["stock_over_ours"] = result["stock_ms_per_prompt"] / result["ours_ms_per_prompt"]
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:26} {value:.3f}" if isinstance(value, float) else f"{name:26} {value}")


if __name__ == "__main__":
    main()
