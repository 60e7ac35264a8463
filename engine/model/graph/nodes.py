"""An ONNX graph, built node by node, of operators that any runtime has."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

_OPSET = 18
# Of the file format: what runtimes of the last years read.
_IR_VERSION = 9
Value = str
"""The name of a value of the graph."""

Shape = Sequence[int | str]
"""Of an input or output; a name is an extent that is open."""


class Nodes:
    """Nodes in their order and the constants that they use; equal constants are kept once."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}

    def add(self, kind: str, *inputs: Value | Tensor, **attributes: Any) -> Value:
        """A node with one output, which is returned; tensors among its inputs become constants."""
        [output] = self._add(kind, inputs, 1, attributes)
        return output

    def split(self, x: Value, axis: int, num: int) -> list[Value]:
        """Equal parts along an axis."""
        return self._add("Split", (x,), num, {"axis": axis, "num_outputs": num})

    def _add(
        self, kind: str, inputs: Sequence[Value | Tensor], num: int, attributes: dict[str, Any]
    ) -> list[Value]:
        number = len(self._nodes)
        outputs = [f"{kind}_{number}_{place}" for place in range(num)]
        names = [self.constant(one) if isinstance(one, Tensor) else one for one in inputs]
        self._nodes.append(helper.make_node(kind, names, outputs, **attributes))
        return outputs

    def constant(self, tensor: Tensor) -> Value:
        """A constant; of floats in float32."""
        wanted = torch.float32 if tensor.is_floating_point() else tensor.dtype
        array: npt.NDArray[Any] = tensor.detach().cpu().to(wanted).contiguous().numpy()
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return str(self._constants[key].name)

    def linear(self, x: Value, weight: Tensor, bias: Tensor | Value | None = None) -> Value:
        """(n, I) by weight (O, I) and a bias that fits (n, O), as torch's layers have them."""
        added = () if bias is None else (bias,)
        return self.add("Gemm", x, weight, *added, transB=1)

    def normed(self, x: Value, weight: Tensor, bias: Tensor, eps: float) -> Value:
        """A layer norm over the last axis."""
        return self.add("LayerNormalization", x, weight, bias, axis=-1, epsilon=eps)

    def reshaped(self, x: Value, *shape: int) -> Value:
        """In another shape, of which one extent may be -1."""
        return self.add("Reshape", x, torch.tensor(shape))

    def turned(self, x: Value, *order: int) -> Value:
        """With its axes in another order."""
        return self.add("Transpose", x, perm=list(order))

    def part(self, x: Value, axis: int, start: int, stop: int) -> Value:
        """A slice along one axis; negative places count from the end."""
        places = (torch.tensor([number]) for number in (start, stop, axis))
        return self.add("Slice", x, *places)

    def total(self, x: Value, *axes: int) -> Value:
        """The sum over axes, which go."""
        return self.add("ReduceSum", x, torch.tensor(axes), keepdims=0)

    def where_true(self, condition: Value) -> Value:
        """bool -> 1.0 and 0.0."""
        return self.add("Cast", condition, to=TensorProto.FLOAT)

    def to_bytes(
        self,
        inputs: Mapping[str, tuple[Shape, int]],
        outputs: Mapping[Value, tuple[str, Shape]],
    ) -> bytes:
        """The file; inputs by name with shape and type, float32 outputs with their final name."""
        last = [
            helper.make_node("Identity", [value], [name]) for value, (name, _) in outputs.items()
        ]
        graph = helper.make_graph(
            [*self._nodes, *last],
            "decoder",
            [helper.make_tensor_value_info(name, kind, s) for name, (s, kind) in inputs.items()],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in outputs.values()
            ],
            initializer=list(self._constants.values()),
        )
        opsets = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())
