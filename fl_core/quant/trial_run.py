"""One run of a traced net on zeros: what each operation gives, and which earlier tensors it writes over.

torch.fx reads an operation in place as one that gives a new tensor, and forgets that its input, and every view of it,
is another tensor from then on. Here it is seen in the run: whatever form wrote, the version of the tensor has changed.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, fx

from fl_core.errors import ModelError
from fl_core.own_code import own_place
from fl_core.quant.float_ops import layer_name, shape_of


class TrialRun(fx.Interpreter):
    """Leaves with each node what the readers ask for, as torch's ShapeProp does, which loads 45 MB of sympy.

    ``tensor_meta`` is the result without its values; ``memory`` a number that all views of one memory share; ``layout``
    where in it the result lies; ``writes`` the memory that the node wrote over, or None.
    """

    def __init__(self, traced: fx.GraphModule, model: str, input_shape: tuple[int, ...]) -> None:
        super().__init__(traced)
        self._model, self._input_shape = model, input_shape
        self._memories = 0

    def run_node(self, n: fx.Node) -> Any:
        """The node's result.

        Raises:
            ModelError: it takes no tensors of these shapes.
        """
        sources = {node: self.env[node] for node in n.all_input_nodes if isinstance(self.env.get(node), Tensor)}
        before = {node: value._version for node, value in sources.items()}
        try:
            result = super().run_node(n)
        except Exception as error:
            raise self._refusal(n, error) from error
        if isinstance(result, Tensor):
            n.meta["tensor_meta"] = result.to("meta")
            n.meta["memory"] = self._memory(result, sources)
            n.meta["layout"] = (tuple(result.shape), result.stride(), result.storage_offset())
        written = [node.meta["memory"] for node, value in sources.items() if value._version != before[node]]
        n.meta["writes"] = written[0] if written else None
        return result

    def _memory(self, result: Tensor, sources: dict[fx.Node, Tensor]) -> int:
        """The number of the result's memory: that of the input that it is a view of, or a new one."""
        for node, value in sources.items():
            if value.untyped_storage().data_ptr() == result.untyped_storage().data_ptr():
                return int(node.meta["memory"])
        self._memories += 1
        return self._memories

    def _refusal(self, n: fx.Node, error: Exception) -> ModelError:
        """The layer that does not run, with shapes; the text of torch's error would name neither."""
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        kind = type(module).__name__ if module is not None else getattr(n.target, "__name__", str(n.target))
        given = " and ".join(f"[B, {', '.join(map(str, shape_of(node)[1:]))}]" for node in n.all_input_nodes)
        weight = getattr(module, "weight", None)
        takes = f"; its weight has shape {list(weight.shape)}" if isinstance(weight, Tensor) else ""
        place = own_place(error)
        return ModelError(
            f"model {self._model}: does not run on inputs of shape {self._input_shape}: layer {layer_name(n)}: "
            f"{kind} cannot take {given or 'no tensor'}{takes}{f' ({place})' if place else ''}"
        )


def run_on_zeros(traced: fx.GraphModule, model: str, input_shape: tuple[int, ...]) -> None:
    """Run ``traced`` once for two examples of zeros.

    Raises:
        ModelError: a layer takes no tensor of the shape that it is given.
    """
    with torch.inference_mode(mode=False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a trial run warns of is either refused later or harmless
        TrialRun(traced, model, input_shape).run(torch.zeros(2, *input_shape))
