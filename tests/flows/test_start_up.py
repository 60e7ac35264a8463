"""What a process that works with a model loads: each one that a stage starts pays for it anew."""

import json
import subprocess
import sys

# Each takes next to as long as torch itself, or longer, and is asked for by few.
HEAVY = ("torchvision", "torch._dynamo", "sympy", "scipy.stats", "timm", "prefect", "ray")
CODE = f"""
import json, sys
import annotator.app, flows.turns.loop, flows.generation.shard_work
from engine.model import sam_parts
heavy = [name for name in {HEAVY} if name in sys.modules]
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam, transformer
same = [Sam is sam_parts.Sam, transformer.Attention is sam_parts.Attention]
print(json.dumps([heavy, same]))
"""


def test_stages_wait_for_nothing_that_few_need_and_metas_package_has_the_same_layers() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    heavy, same = json.loads(done.stdout)
    assert heavy == []
    assert all(same)
