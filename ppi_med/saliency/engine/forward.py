"""The recorded forward: an ordinary forward pass in which operations keep a rule for relevance.

A `TorchFunctionMode` around the network's own forward runs each operation as it is, and adds a
detour (`ppi_med.saliency.engine.primitives`) after those with their own rule: relevance takes it
while a map is computed, derivatives never do. The rest is plain autograd. There are no hooks, so
functional calls, reused modules and in-place ReLU work, and no trace remains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ppi_med.saliency.base import usable
from ppi_med.saliency.engine.call import Call, Rule, with_constants
from ppi_med.saliency.engine.isolation import as_written
from ppi_med.saliency.engine.norm_derivatives import norm_derivatives
from ppi_med.saliency.engine.operations import (
    FIRST_ONLY,
    GATE_KEEPING,
    LINEAR,
    PASSIVE,
    STRUCTURAL,
    changes_first_operand,
    operation_name,
)
from ppi_med.saliency.engine.primitives import (
    Relevance,
    Switch,
    UnsupportedOperationError,
    entrance,
)
from ppi_med.saliency.engine.roles import (
    Role,
    assign_role,
    is_classified,
    is_untouched,
    map_tensors,
    role_of,
    tensors_in,
)
from ppi_med.saliency.engine.unknown import Outside


class RecordedForward(TorchFunctionMode):
    """The mode under which a network's forward is recorded.

    Args:
        rules: operation name -> rule.
        network: the network, to name the module of an operation without a rule.
        foreign: qualified name of an `autograd.Function` -> relevance rule on its saved tensors;
            such functions bypass torch's dispatch and are found where their result is used.
        collect_constants: keep each constant that is added to the signal as a leaf
            (see `ppi_med.saliency.completeness`).
        for_training: a `backward` will follow, through the output or through the map; without it
            torch's own backward through a layer is quicker.

    Examples:
        >>> from ppi_med.saliency.engine.rules import WBP_RULES
        >>> image = torch.tensor([[[-1.0, 2.0]]], requires_grad=True)
        >>> forward = RecordedForward(WBP_RULES, torch.nn.functional.silu)
        >>> output = forward.run(image)
        >>> with forward.switch:
        ...     (ratio,) = torch.autograd.grad(output.sum(), image)
        >>> torch.equal(ratio, torch.sigmoid(image))
        True
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        network: Callable[..., Any],
        *,
        foreign: Mapping[str, Relevance] | None = None,
        collect_constants: bool = False,
        for_training: bool = True,
    ) -> None:
        super().__init__()
        self.for_training = for_training
        self.rules = rules
        self.network = network
        self.switch = Switch()
        self.constants: list[Tensor] | None = [] if collect_constants else None
        self._outside = Outside(network, self.switch, foreign or {})
        self.in_float16 = False
        self._surrogates = 0
        # Autograd is the rule for these, and a subclass with its own dispatch gets all of them.
        every = type(self) is RecordedForward and not collect_constants
        self._plain = (STRUCTURAL | LINEAR) - rules.keys() if every else frozenset()

    def run(self, image: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the network on `image`, a leaf, and return its output."""
        with torch.inference_mode(False), torch.enable_grad():
            self.in_float16 = _is_in_float16(image)
            start = entrance(image, self.switch)
            assign_role(start, Role.SIGNAL, untouched=True)
            self._outside.entrance = start.grad_fn
            args, kwargs = map_tensors((args, kwargs), usable)
            with as_written(), norm_derivatives(), self:
                output = self.network(start, *args, **kwargs)
            self._survey((output,))
            return output

    def constant(self, value: Tensor) -> Tensor:
        """Return `value`, or a leaf of the same value if constants are collected."""
        if self.constants is None:
            return value
        leaf = value.detach().clone().requires_grad_()
        self.constants.append(leaf)
        return leaf

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = operation_name(func)
        if name in PASSIVE:
            return func(*args, **kwargs)
        role, untouched = self._survey(args[:1] if name in FIRST_ONLY else (*args, kwargs))
        if role is Role.CONSTANT:
            if self._surrogates and name == "detach":
                # It carries no relevance, so only its derivative is kept.
                return args[0] if args else kwargs["input"]
            output = func(*args, **kwargs)
            assign_role(output, role, replace=False)
            return output
        if role is Role.GATE and name not in GATE_KEEPING:
            role = Role.SIGNAL
        in_place = changes_first_operand(func, args, kwargs)
        if name in self._plain:
            output = func(*args, **kwargs)
        else:
            call = Call(func, name, args, kwargs, self, role, in_place)
            _refuse_checkpointing(call)
            output = self._dispatch(call)
            role = call.role
        if in_place or name == "setitem":
            _assign_in_place(args[0] if args else kwargs["input"], role, untouched)
        else:
            assign_role(output, role, replace=False, untouched=untouched)
        return output

    def _survey(self, operands: tuple[Any, ...]) -> tuple[Role, bool]:
        """Return the strongest role among the tensors, and whether nothing in them is trained."""
        role, untouched = Role.CONSTANT, True
        for tensor in tensors_in(operands):
            if tensor.grad_fn is None:
                untouched = untouched and not tensor.requires_grad
                continue
            if not is_classified(tensor):
                self._outside.classify(tensor)
            untouched = untouched and is_untouched(tensor)
            own = role_of(tensor)
            if own is not None and role is not Role.SIGNAL:
                role = own
        return role, untouched

    def _dispatch(self, call: Call) -> Any:
        explained = getattr(call.function, "saliency_surrogate", None)
        if explained is not None:
            return self._with_surrogate(call, explained)
        if self._surrogates and call.name == "detach":
            call.role = Role.GATE
            return call.gate(call.argument(0, "input"))
        rule = self.rules.get(call.name)
        if rule is not None:
            return rule(call)
        if call.name in STRUCTURAL or call.name in LINEAR:
            return with_constants(call).run()
        return call.refuse(call.run())

    def _with_surrogate(self, call: Call, explained: Callable[..., Tensor]) -> Tensor:
        """Let relevance explain `explained(...)` instead of the function.

        Inside it `detach` means "a constant of the map": its derivative is kept.
        """
        value: Tensor = call.run()
        self._surrogates += 1
        try:
            with self:
                linear = explained(*call.args, **call.kwargs)
        finally:
            self._surrogates -= 1
        if self.constants is not None:
            return linear
        return self._explained_by(call, value, linear)

    def _explained_by(self, call: Call, value: Tensor, linear: Tensor) -> Tensor:
        """Return `value` with its derivative; relevance passes to `linear`."""
        return call.detour(value, _pass, linear)


def _assign_in_place(target: Tensor, role: Role, untouched: bool) -> None:
    assign_role(target, role, untouched=untouched)
    base = target._base if target._is_view() else None
    if base is not None:
        whole = role if role_of(base) is None else Role.SIGNAL
        assign_role(base, whole, untouched=untouched and is_untouched(base))


def _is_in_float16(image: Tensor) -> bool:
    kind = image.device.type
    autocast = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
    return autocast or image.dtype == torch.float16


def _pass(grad: Tensor, _: Tensor) -> tuple[Tensor]:
    return (grad,)


def _refuse_checkpointing(call: Call) -> None:
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(False)
    if hooks and getattr(hooks[0], "__qualname__", "").startswith("_checkpoint_hook"):
        raise UnsupportedOperationError(
            f"activation checkpointing in {call.place()}: it runs the forward again where it is "
            "not recorded; switch it off while maps are computed"
        )
