"""The recorded forward under LRP's rules: which operations copy relevance, pass or share it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.grad_mode import _unsafe_preserve_version_counter as preserved_version

from ppi_med.saliency.base import Network
from ppi_med.saliency.engine.call import Call
from ppi_med.saliency.engine.forward import RecordedForward
from ppi_med.saliency.engine.norm_derivatives import arguments
from ppi_med.saliency.engine.operations import STRUCTURAL, words
from ppi_med.saliency.engine.primitives import Relevance, Switch
from ppi_med.saliency.engine.roles import Role, assign_role, map_tensors, role_of, tensors_in
from ppi_med.saliency.engine.rules import FOREIGN_RULES, WBP_RULES
from ppi_med.saliency.lrp.layers import (
    CONVOLUTION,
    LAYERS,
    LinearMap,
    NamedRelevance,
    linear_map,
    merged_relevance,
)
from ppi_med.saliency.lrp.rules import Choice, LayerState, LRPRule, quotient

# These move, select or repeat values: autograd's derivative is the rule for R too.
COPYING = (
    STRUCTURAL
    - words(
        """
        interpolate upsample upsample_nearest upsample_bilinear dropout dropout1d dropout2d
        dropout3d alpha_dropout feature_alpha_dropout feature_dropout neg negative positive real
        get:real get:imag imag conj conj_physical view_as_real view_as_complex
        """
    )
) | words(
    """
    max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
    adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices
    adaptive_max_pool3d_with_indices fractional_max_pool2d fractional_max_pool3d
    fractional_max_pool2d_with_indices fractional_max_pool3d_with_indices max_unpool1d
    max_unpool2d max_unpool3d max min amax amin maximum minimum fmax fmin topk sort median kthvalue
    where masked_fill im2col setitem copy zero fill masked_scatter scatter index_copy index_fill
    index_put put fill_diagonal tril triu msort detach
    """
)
# Elementwise functions of one operand: R passes unchanged.
ACTIVATIONS = words(
    """
    relu leaky_relu prelu rrelu hardshrink softshrink tanhshrink silu gelu mish hardswish elu celu
    selu tanh softsign softplus logsigmoid relu6 hardtanh threshold clamp clamp_min clamp_max
    sigmoid hardsigmoid abs absolute neg negative positive
    """
)
# Activations whose result is a gate when it multiplies a signal.
GATING = frozenset({"sigmoid", "hardsigmoid"})
# A factor that is a gate or a constant: R passes unchanged to what it multiplies.
SCALINGS = frozenset({"mul", "div"})


class _Alias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        return value.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> Tensor | None:
        return grad


class _Rerouted(torch.autograd.Function):
    """Follows a result: derivatives pass to what made it, relevance to another tensor."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, source: Tensor, switch: Switch) -> Tensor:
        ctx.switch, ctx.shape, ctx.dtype = switch, source.shape, source.dtype
        ctx.part = value._is_view()
        ctx.set_materialize_grads(False)
        ctx.mark_dirty(value)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, Tensor | None, None]:
        if grad is None or not ctx.switch.on:
            return grad, None, None
        passed = grad.sum_to_size(ctx.shape).to(ctx.dtype)
        # Zeros for this part: None would mean that the whole tensor gets no relevance.
        return (torch.zeros_like(grad) if ctx.part else None), passed, None


class _Translated(torch.autograd.Function):
    """An alias that converts relevance to another unit."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, unit: Callable[..., Tensor], switch: Switch, kept: Tensor
    ) -> Tensor:
        ctx.unit, ctx.switch = unit, switch
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(kept)
        return value.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        if grad is None or not ctx.switch.on:
            return grad, None, None, None
        return ctx.unit(grad, *ctx.saved_tensors), None, None, None


def aliased(value: Tensor) -> Tensor:
    """Return an alias that stands for `value` before an operation in place.

    Only its place in the graph may be used: its value changes with the operation.
    """
    out: Tensor = _Alias.apply(value)  # type: ignore[no-untyped-call]
    return out


def rerouted(value: Tensor, source: Tensor, switch: Switch, *, in_place: bool) -> Tensor:
    """Return `value` with its derivative; relevance passes unchanged to `source`.

    Args:
        value: the result of an operation, which is returned itself.
        source: the operand that takes the relevance, summed where it was broadcast.
        switch: the engine's.
        in_place: the operation changed its operand, and `value` is that operand.
    """
    if not value.requires_grad:
        return value
    if value._is_view() and not in_place:
        value = value.clone()
    # The value stays the same, so its version counter does too: autograd refuses a tensor that has
    # changed since an operation saved it.
    with preserved_version(value):
        out: Tensor = _Rerouted.apply(value, source, switch)  # type: ignore[no-untyped-call]
    return out


def translated(value: Tensor, unit: Callable[..., Tensor], switch: Switch, kept: Tensor) -> Tensor:
    """Return an alias of `value` that passes back `unit(r, kept)` while a map is computed.

    Args:
        value: any tensor of the graph.
        unit: function of the incoming relevance and `kept`; its result is passed on.
        switch: the engine's.
        kept: a tensor that nothing changes in place.
    """
    out: Tensor = _Translated.apply(value, unit, switch, kept)  # type: ignore[no-untyped-call]
    return out


_ATTRIBUTE = "_lrp_layer"


@dataclass(frozen=True)
class _Origin:
    """The layer that a tensor came from, for a following BatchNorm."""

    map: LinearMap
    rule: LRPRule
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    version: int


class RelevanceForward(RecordedForward):
    """The mode under which a network's forward is recorded for LRP.

    Args:
        choice: which rule a layer has.
        network: the network.
        share_epsilon: epsilon for what is shared by contribution and is not a layer.
    """

    def __init__(self, choice: Choice, network: Network, share_epsilon: float) -> None:
        super().__init__(WBP_RULES, network, foreign=dict.fromkeys(FOREIGN_RULES, _unchanged))
        self.choice = choice
        self.share_epsilon = share_epsilon

    def _dispatch(self, call: Call) -> Any:
        if hasattr(call.function, "saliency_surrogate") or call.name in COPYING:
            return super()._dispatch(call)
        signals = [t for t in tensors_in((*call.args, call.kwargs)) if role_of(t) is Role.SIGNAL]
        if not signals:
            return super()._dispatch(call)
        if call.name in LAYERS and _is_layer(call):
            return self._layer(call)
        if call.name == "batch_norm" and (origin := _origin_of(call)) is not None:
            return self._merged(call, origin)
        first = call.argument(0, "input")
        alone = all(signal is signals[0] for signal in signals)
        if alone and call.name in ACTIVATIONS and first is signals[0] and _fixed(call):
            call.role = Role.GATE if call.name in GATING else Role.SIGNAL
            return self._passed(call, signals[0])
        if alone and call.name in SCALINGS and (call.name == "mul" or first is signals[0]):
            return self._passed(call, signals[0])
        return self._shared(call)

    def _passed(self, call: Call, source: Tensor) -> Any:
        """Let R pass unchanged to the operand `source`."""
        changed = call.in_place and call.argument(0, "input") is source
        before = aliased(source) if changed else source
        out = call.run()
        if out is source and not changed:
            return out
        return rerouted(out, before, self.switch, in_place=call.in_place)

    def _layer(self, call: Call) -> Tensor:
        layer, x = linear_map(call), call.argument(0, "input")
        weight, bias = call.argument(1, "weight"), call.argument(2, "bias")
        if layer.kind == CONVOLUTION and x.ndim < weight.ndim:
            shared: Tensor = self._shared(call)  # of one image without a batch
            return shared
        rule = self.choice(call, layer.kind, weight)
        out: Tensor = call.run()
        # A copy, because what follows may change the output in place.
        operands = {"x": x, "weight": weight, "bias": bias, "z": out.clone()}
        out = _detour(call, out, _layer_relevance(layer, rule), operands)
        setattr(out, _ATTRIBUTE, _Origin(layer, rule, x, weight, bias, out._version))
        return out

    def _merged(self, call: Call, origin: _Origin) -> Tensor:
        """A BatchNorm directly after a layer: one layer of scaled weights."""
        out: Tensor = call.run()
        given = arguments(call.function, call.args, call.kwargs)
        statistics = {"inputs": given["input"]}
        if not given["batch"]:
            statistics = {"mean": given["running_mean"], "variance": given["running_var"]}
        operands = {
            "x": origin.x,
            "weight": origin.weight,
            "bias": origin.bias,
            "gamma": given["weight"],
            "beta": given["bias"],
            "z": out.clone(),
            **statistics,
        }
        layer_relevance = _layer_relevance(origin.map, origin.rule)
        relevance = merged_relevance(origin.map, given["eps"], layer_relevance)
        return _detour(call, out, relevance, operands)

    def _shared(self, call: Call) -> Any:
        """Share R by contribution, weighted as in WBP's rule of the operation."""
        if call.name == "multi_head_attention_forward":
            return super()._dispatch(call)  # its body arrives here operation by operation
        changed = call.argument(0, "input") if call.in_place else None
        entered: dict[int, tuple[Tensor, Tensor]] = {}

        def enter(value: Tensor) -> Tensor:
            if role_of(value) is not Role.SIGNAL:
                return value
            if id(value) not in entered:
                entered[id(value)] = (value, self._weights_from_here(value, value is changed))
            return entered[id(value)][1]

        inner = call.replaced(map_tensors(call.args, enter), map_tensors(call.kwargs, enter))
        out = super()._dispatch(inner)
        call.role = inner.role
        originals = {id(alias): value for value, alias in entered.values() if value is not changed}

        def leave(value: Tensor) -> Tensor:
            # Some operations, such as dropout in evaluation, return their operand itself.
            unchanged = originals.get(id(value))
            return self._relevance_from_here(value) if unchanged is None else unchanged

        out = map_tensors(out, leave)
        if changed is None:
            return out
        changed.copy_(out)
        return changed

    def _weights_from_here(self, value: Tensor, changes: bool) -> Tensor:
        """Return an alias of `value` that turns returning weights into R = c x."""
        kept = value.clone()
        alias = translated(value.clone() if changes else value, _times, self.switch, kept)
        assign_role(alias, Role.SIGNAL)
        return alias

    def _relevance_from_here(self, value: Tensor) -> Tensor:
        """Return `value`; returning R becomes weights c = R / z."""
        if not value.requires_grad:
            return value
        role = role_of(value)
        out = translated(value, _divided(self.share_epsilon), self.switch, value.clone())
        if role is not None:
            assign_role(out, role)
        return out

    def _explained_by(self, call: Call, value: Tensor, linear: Tensor) -> Tensor:
        rule = _replaced(self.share_epsilon)
        return call.detour(value, rule, linear, value.clone())


def _unchanged(r: Tensor, *saved: Tensor) -> tuple[Tensor | None, ...]:
    return (r, *(None for _ in saved[1:]))


def _is_layer(call: Call) -> bool:
    x, weight, bias = (call.argument(i, n) for i, n in enumerate(("input", "weight", "bias")))
    return role_of(x) is Role.SIGNAL and role_of(weight) is None and role_of(bias) is None


def _fixed(call: Call) -> bool:
    """Say whether all operands but the first are constants."""
    return all(role_of(t) is None for t in tensors_in((*call.args[1:], call.kwargs)))


def _origin_of(call: Call) -> _Origin | None:
    """Return the layer that made a BatchNorm's input, unless the input has changed since."""
    given = arguments(call.function, call.args, call.kwargs)
    x = given["input"]
    origin: _Origin | None = getattr(x, _ATTRIBUTE, None)
    affine = (given["weight"], given["bias"])
    if origin is None or origin.version != x._version or any(role_of(t) for t in affine):
        return None
    return origin


def _layer_relevance(layer: LinearMap, rule: LRPRule) -> NamedRelevance:
    def relevance(r: Tensor, named: dict[str, Tensor]) -> Tensor:
        x, weight, dtype = named["x"], named["weight"], named["weight"].dtype
        bias = named.get("bias")
        state = LayerState(layer, x.to(dtype), weight, bias, named["z"].to(dtype))
        return rule.relevance(r.to(dtype), state).to(x.dtype)

    return relevance


def _detour(
    call: Call, out: Tensor, relevance: NamedRelevance, operands: dict[str, Tensor | None]
) -> Tensor:
    """Pass relevance to the operand `x` by a rule that takes its tensors by name."""
    names = tuple(name for name, value in operands.items() if value is not None)

    def passed(r: Tensor, *values: Tensor) -> tuple[Tensor | None, ...]:
        named = dict(zip(names, values, strict=True))
        found = relevance(r, named)
        return tuple(found if name == "x" else None for name in names)

    return call.detour(out, passed, *operands.values())


def _times(weights: Tensor, x: Tensor) -> Tensor:
    return (weights * x).to(x.dtype)


def _divided(epsilon: float) -> Callable[..., Tensor]:
    def divided(r: Tensor, z: Tensor) -> Tensor:
        return quotient(r, z, epsilon)

    return divided


def _replaced(epsilon: float) -> Relevance:
    def replaced(r: Tensor, linear: Tensor, value: Tensor) -> tuple[Tensor, None]:
        return linear * quotient(r, value, epsilon), None

    return replaced
