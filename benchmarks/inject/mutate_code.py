"""One seeded change of a user's own model or task: a slip of the pen in its text, or a habit from another framework.

Half of the changes are made in the syntax tree, wherever the seed falls; the others are habits that people bring along.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Callable

LINEAR = "made.modules() if isinstance(m, nn.Linear)"
ENDS: dict[str, dict[str, str]] = {
    "my_model.py": {
        "double": "made.double()",
        "half": "made.half()",
        "frozen": "[p.requires_grad_(False) for p in made.parameters()] and made",
        "all weights NaN": "[nn.init.constant_(p, float('nan')) for p in made.parameters()] and made",
        "all weights zero": "[nn.init.zeros_(p) for p in made.parameters()] and made",
        "weights of 1e30": "[nn.init.constant_(p, 1e30) for p in made.parameters()] and made",
        "softmax at the end": "nn.Sequential(made, nn.Softmax(dim=1))",
        "sigmoid at the end": "nn.Sequential(made, nn.Sigmoid())",
        "a trailing axis": "nn.Sequential(made, nn.Unflatten(1, (-1, 1)))",
        "squeeze at the end": "Wrapped(made, lambda y: y.squeeze())",
        "argmax at the end": "Wrapped(made, lambda y: y.argmax(1))",
        "detach at the end": "Wrapped(made, lambda y: y.detach())",
        "a pair": "Wrapped(made, lambda y: (y, y))",
        "a dict": "Wrapped(made, lambda y: {'logits': y})",
        "numpy in the forward": "Wrapped(made, lambda y: __import__('torch').from_numpy(y.detach().numpy()))",
        "a branch on data": "Wrapped(made, lambda y: y if y.sum() > 0 else -y)",
        "random noise": "Wrapped(made, lambda y: y + __import__('torch').randn_like(y))",
        "mean over the batch": "Wrapped(made, lambda y: y - y.mean(0))",
        "in-place at the end": "Wrapped(made, lambda y: y.relu_() + y)",
        "an exception": "Wrapped(made, lambda y: y[5000])",
        "dropout of all": "nn.Sequential(made, nn.Dropout(1.0))",
        "BatchNorm at the end": "nn.Sequential(made, nn.BatchNorm1d(outputs))",
        "LayerNorm at the end": "nn.Sequential(made, nn.LayerNorm(outputs))",
        "another number of outputs": "nn.Sequential(made, nn.Linear(outputs, outputs + 1))",
        "nothing": "None",
        "a class": "type(made)",
        "sys.exit": "__import__('sys').exit(3)",
        "torch.compile": "__import__('torch').compile(made)",
        "weight_norm": f"[nn.utils.parametrizations.weight_norm(m) for m in {LINEAR}] and made",
        "a hook": "made.register_forward_hook(lambda m, i, o: o * 2) and made",
        "in a ModuleList": "nn.ModuleList([made])",
        "DataParallel": "nn.DataParallel(made)",
    },
    "my_task.py": {
        "a mean over the batch": "loss.mean()",
        "a sum over the batch": "loss.sum()",
        "a column": "loss[:, None]",
        "detached": "loss.detach()",
        "NaN": "loss * float('nan')",
        "Inf": "loss + float('inf')",
        "zero": "loss * 0",
        "negative": "-loss",
        "a float": "float(loss.mean())",
        "a list": "loss.tolist()",
        "nothing": "None",
        "one example less": "loss[1:]",
        "spread over the batch": "loss - loss.mean()",
        "times 1e30": "loss * 1e30",
        "an exception": "loss[5000]",
        "integers": "loss.long()",
    },
}  # fmt: skip
"""What a model or a loss is turned into before it is given back: habits from elsewhere."""

WRAPPED = """

class Wrapped(nn.Module):
    def __init__(self, inner, then):
        super().__init__()
        self.inner, self.then = inner, then

    def forward(self, x):
        return self.then(self.inner(x))
"""


def mutate_source(file: str, source: str, rng: random.Random) -> tuple[str, str]:
    """The changed text of a module, and the change in words."""
    if rng.random() < 0.5:
        habit = rng.choice(list(ENDS[file]))
        change = _model_ends_in if file == "my_model.py" else _loss_ends_in
        return change(source, ENDS[file][habit]), f"{file}: {habit}"
    tree = ast.parse(source)
    places = [change for kind in SLIPS for change in kind(tree)]
    words, slip = rng.choice(places)
    slip()
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n", f"{file}: {words}"


def _model_ends_in(source: str, expression: str) -> str:
    """The factory, which is the last function of the module, gives ``expression`` of what it made."""
    tree = ast.parse(source)
    factory = next(node for node in reversed(tree.body) if isinstance(node, ast.FunctionDef))
    name, factory.name = factory.name, "as_it_was"
    call = f"\n\ndef {name}(input_shape, outputs, **args):\n    made = as_it_was(input_shape, outputs, **args)\n"
    return ast.unparse(tree) + WRAPPED + f"{call}    return {expression}\n"


def _loss_ends_in(source: str, expression: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "example_loss":
            *_, last = node.body
            assert isinstance(last, ast.Return)
            node.body[-1:] = ast.parse(f"loss = {ast.unparse(last.value or ast.Constant(None))}\n").body
            node.body.append(ast.Return(ast.parse(expression, mode="eval").body))
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


Slip = tuple[str, Callable[[], None]]


def _gone(tree: ast.Module) -> list[Slip]:
    """A statement is left out."""
    slips: list[Slip] = []
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and len(body) > 1:
            slips += [
                (f"without `{ast.unparse(each).splitlines()[0][:60]}`", lambda body=body, each=each: body.remove(each))  # type: ignore[misc]
                for each in body
                if not isinstance(each, ast.Import)
            ]
    return slips


def _constant(tree: ast.Module) -> list[Slip]:
    """A number is another one."""

    def change(node: ast.Constant, value: object) -> None:
        node.value = value  # type: ignore[assignment]

    numbers = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and type(n.value) in (int, float)]
    return [
        (f"line {node.lineno}: {node.value} is {value}", lambda node=node, value=value: change(node, value))  # type: ignore[misc]
        for node in numbers
        for value in (0, -1, node.value + 1)  # type: ignore[operator]
    ]


def _argument(tree: ast.Module) -> list[Slip]:
    """An argument of a call is forgotten."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and (node.args or node.keywords)]
    return [
        (f"line {call.lineno}: `{ast.unparse(call)[:50]}` without its last argument",
         lambda call=call: (call.keywords or call.args).pop())  # type: ignore[misc]
        for call in calls
    ]  # fmt: skip


def _swapped(tree: ast.Module) -> list[Slip]:
    """Two arguments are in the wrong order."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.args) > 1]
    return [
        (f"line {call.lineno}: `{ast.unparse(call)[:50]}` with its arguments turned round",
         lambda call=call: call.args.reverse())  # type: ignore[misc]
        for call in calls
    ]  # fmt: skip


SLIPS = (_gone, _constant, _argument, _swapped)
"""Every kind of slip."""
