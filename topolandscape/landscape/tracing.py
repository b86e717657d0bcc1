"""A module as a list of steps, by torch.fx: what it does to its inputs, in the order in which it does it.

Modules are traced down to torch's functions. Some of torch's own modules look at the shapes of their inputs on the way,
which cannot be traced; what they do is said here once more, in torch's words.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from topolandscape.landscape.functions import IN_PLACE, SHARING
from topolandscape.landscape.stacked import NotWide


@dataclass(frozen=True, eq=False)
class Step:
    """One operation.

    Attributes
    ----------
    node
        The operation and its arguments, which are nodes or plain values.
    last
        Nodes that no later step reads.
    changed
        Nodes whose tensor this changes in place, and which later steps read.
    overwrites
        Whether nobody else reads the argument, so that the result may take its memory.
    """

    node: fx.Node
    last: tuple[fx.Node, ...] = ()
    changed: tuple[fx.Node, ...] = ()
    overwrites: bool = False


@dataclass(frozen=True, eq=False)
class Program:
    """What a module does.

    Attributes
    ----------
    steps
        In the order in which they are taken.
    constants
        Tensors that are no parameters, by their names in the steps.
    """

    steps: tuple[Step, ...]
    constants: Mapping[str, Tensor]


_DIMENSIONS: Mapping[Any, int] = {F.linear: 0, F.conv1d: 1, F.conv2d: 2, F.conv3d: 3}
# What gives a new tensor that nobody reads on the way back.
_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
_FRESH = (*_DIMENSIONS, F.batch_norm, F.layer_norm, F.group_norm, F.instance_norm, *_SUMS)
# What is no operation of tensors, but of the shapes and numbers that come along.
_PLAIN = (torch.arange, torch.tensor, torch.zeros, torch.ones, torch.full, torch.linspace, torch.eye, torch.Size)


def program(
    module: nn.Module, known: Collection[Any], overwriting: Collection[Any], *, linear: bool = False
) -> Program:
    """Return the steps of a module.

    Parameters
    ----------
    module
        Called with one argument; left as it is.
    known
        Functions, and names of methods, that can be evaluated.
    overwriting
        Those among them whose result may take the memory of their argument.
    linear
        Whether outputs of linear layers have no other dimensions than rows and features, so that batch norm is put into
        these layers too, as it is into convolutions.

    Raises
    ------
    NotWide
        The module cannot be traced, is in train mode where that matters, or calls something that is not known.
    """
    root = _Called(copy.deepcopy(module))
    try:
        graph = _Tracer(autowrap_modules=(math,)).trace(root)
    except NotWide:
        raise
    except Exception as error:
        raise NotWide(f"the module cannot be traced: {str(error).splitlines()[0] if str(error) else error!r}") from None
    _fold(graph, _DIMENSIONS if linear else {step: n for step, n in _DIMENSIONS.items() if n})
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output") or _changes(node))
    nodes = list(graph.nodes)
    for node in nodes:
        if node.op in ("call_function", "call_method") and not (node.target in known or _is_plain(node.target)):
            raise NotWide(f"the function {getattr(node.target, '__name__', node.target)}")
    parameters = {name for name, _ in root.named_parameters(remove_duplicate=False)}
    constants = {
        node.target: operator.attrgetter(node.target)(root).detach()
        for node in nodes
        if node.op == "get_attr" and node.target not in parameters
    }
    return Program(_steps(nodes, overwriting), constants)


def parameter_name(target: Any) -> str:
    """Return the name that a parameter has in the module, of which `target` is the name in the steps."""
    return str(target).removeprefix("module.")


class _Called(nn.Module):
    """A module that is called with one argument: hooks and default arguments are as usual."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: Any) -> Any:
        return self.module(inputs)


class _Proxy(fx.Proxy):
    """Records what changes a tensor in place as such; torch.fx takes ``x += y`` for ``x = x + y``."""

    def __iadd__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.itruediv, (self, other), {})

    def __ipow__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.ipow, (self, other), {})


class _Tracer(fx.Tracer):
    """Goes into every module, but those that are said below in other words."""

    proxy_buffer_attributes = True

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return what stands for the result of a node while tracing."""
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return False: nothing is left whole."""
        return False

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Return what a module makes of its arguments."""
        words = _WORDS.get(type(m))
        if words is None:
            return super().call_module(m, forward, args, kwargs)
        if m._forward_hooks or m._forward_pre_hooks:
            raise NotWide(f"hooks of a {type(m).__name__}")
        return words(m, *args, **kwargs)


def _fold(graph: fx.Graph, dimensions: Mapping[Any, int]) -> None:
    """Put scale and shift of batch norm into a layer before it, which saves passes over its outputs."""
    nodes = list(graph.nodes)
    for norm in nodes:
        before = norm.args[0] if norm.target is F.batch_norm else None
        if not isinstance(before, fx.Node) or before.target not in dimensions or len(before.users) > 1:
            continue
        if norm.kwargs["training"] or None in norm.args or len(before.args) < 2:
            continue
        if any(map(_changes, nodes[nodes.index(before) : nodes.index(norm)])):
            continue
        bias: Any = before.kwargs.get("bias", before.args[2] if len(before.args) > 2 else None)
        parts = (*norm.args[1:], before.args[1], bias, norm.kwargs["weight"], norm.kwargs["bias"])
        with graph.inserting_before(norm):
            proxies: list[Any] = [part and fx.Proxy(part) for part in parts]
            mean, variance, weight, bias, scale, shift = proxies
            factor: Any = torch.rsqrt(variance + norm.kwargs["eps"])
            factor = factor if scale is None else factor * scale
            moved = (-mean if bias is None else bias - mean) * factor
            moved = moved if shift is None else moved + shift
            scaled = weight * factor.reshape(-1, *[1] * (dimensions[before.target] + 1))
            arguments = (before.args[0], scaled.node, moved.node, *before.args[3:])
            options = {name: value for name, value in before.kwargs.items() if name != "bias"}
            layer: Any = before.target
            norm.replace_all_uses_with(graph.call_function(layer, arguments, options))
        graph.erase_node(norm)
        graph.erase_node(before)


def _is_plain(target: Any) -> bool:
    return target in _PLAIN or getattr(target, "__module__", None) in ("math", "_operator", "builtins")


def _changes(node: fx.Node) -> bool:
    """Return whether an operation changes its first argument."""
    return node.target in IN_PLACE or bool(node.kwargs.get("inplace", False))


def _steps(nodes: list[fx.Node], overwriting: Collection[Any]) -> tuple[Step, ...]:
    place = {node: i for i, node in enumerate(nodes)}
    changed = {node: _changed(node, place) for node in nodes if _changes(node)}
    last: dict[fx.Node, list[fx.Node]] = {}
    for node in nodes:
        final = max((place[user] for user in node.users), default=place[node])
        last.setdefault(nodes[final], []).append(node)
    return tuple(
        Step(node, tuple(last.get(node, ())), changed.get(node, ()), _may_overwrite(node, overwriting))
        for node in nodes
    )


def _may_overwrite(node: fx.Node, overwriting: Collection[Any]) -> bool:
    first = _first(node)
    return node.target in overwriting and first is not None and first.target in _FRESH and len(first.users) == 1


def _changed(node: fx.Node, place: Mapping[fx.Node, int]) -> tuple[fx.Node, ...]:
    """Return the nodes that an operation changes and that are read later; raise when one is only a part of them."""
    now = place[node]
    later = [other for other in _sharing(node) if place[other] < now and any(place[user] > now for user in other.users)]
    for other in later:
        if _unchanged(other) is not _unchanged(node):
            raise NotWide(f"{_first(node)} is changed in place, and read later as {other}")
    return tuple(later)


def _unchanged(node: fx.Node) -> fx.Node:
    """Return where a tensor comes from, before it was changed in place."""
    first = _first(node)
    return _unchanged(first) if first is not None and _changes(node) else node


def _sharing(node: fx.Node) -> set[fx.Node]:
    """Return the nodes that may share memory with one."""
    found, new = {node}, [node]
    while new:
        one = new.pop()
        around = [user for user in one.users if _first(user) is one and _shares(user)]
        first = _first(one)
        if first is not None and _shares(one):
            around.append(first)
        new += [other for other in around if other not in found]
        found.update(around)
    return found


def _shares(node: fx.Node) -> bool:
    return node.op in ("call_function", "call_method") and (node.target in SHARING or _changes(node))


def _first(node: fx.Node) -> fx.Node | None:
    """Return the first argument of an operation, where it is one."""
    return node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None


# --------------------------------------------------------------------------------------------------------------
# Torch's modules in other words
# --------------------------------------------------------------------------------------------------------------


def _batch_norm(layer: Any, x: Any) -> Any:
    if layer.training or layer.running_mean is None:
        raise NotWide("batch norm that follows the data")
    return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps)


def _instance_norm(layer: Any, x: Any) -> Any:
    follows = layer.training or not layer.track_running_stats
    if follows and layer.track_running_stats:
        raise NotWide("instance norm in train mode")
    channels = -layer._get_no_batch_dim()
    x = x.transpose(channels, channels)  # refused where the channels are the rows: inputs without a batch
    mean, variance = (None, None) if follows else (layer.running_mean, layer.running_var)
    return F.instance_norm(x, mean, variance, layer.weight, layer.bias, follows, eps=layer.eps)


def _dropout(layer: Any, x: Any) -> Any:
    if layer.training and layer.p:
        raise NotWide("dropout in train mode")
    return x


def _softmax2d(layer: nn.Softmax2d, x: Any) -> Any:
    return F.softmax(x, -3)


def _circular_pad(layer: Any, x: Any) -> Any:
    return F.pad(x, layer.padding, "circular")


def _multihead_attention(
    layer: nn.MultiheadAttention,
    query: Any,
    key: Any,
    value: Any,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Any, Any]:
    if not layer.batch_first:
        raise NotWide("attention with batch_first=False: the rows are the second dimension")
    if key_padding_mask is not None or layer.bias_k is not None or layer.add_zero_attn:
        raise NotWide("attention with key_padding_mask, add_bias_kv or add_zero_attn")
    if layer.training and layer.dropout:
        raise NotWide("attention with dropout in train mode")
    hides = attn_mask is not None and _dtype(attn_mask) == torch.bool
    inputs, bias = (query, key, value), layer.in_proj_bias
    if query is key and key is value and layer.in_proj_weight is not None:
        parts = F.linear(query, layer.in_proj_weight, bias).chunk(3, -1)
    else:
        separate = (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
        weights = separate if layer.in_proj_weight is None else layer.in_proj_weight.chunk(3)
        biases = (None, None, None) if bias is None else bias.chunk(3)
        parts = tuple(F.linear(inputs[i], weights[i], biases[i]) for i in range(3))
    q, k, v = (parts[i].unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for i in range(3))
    # Torch's function takes what may be seen, its module what may not.
    mask = ~attn_mask if hides else attn_mask
    found = F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)
    out = F.linear(found, layer.out_proj.weight, layer.out_proj.bias)
    if not need_weights:
        return out, None
    fit = q @ k.transpose(-2, -1) / math.sqrt(layer.head_dim)
    if attn_mask is not None:
        fit = fit.masked_fill(attn_mask, -math.inf) if hides else fit + attn_mask
    shares = F.softmax(fit, -1)
    return out, shares.mean(1) if average_attn_weights else shares


def _dtype(mask: Any) -> torch.dtype:
    """Return the type of a constant, or of a parameter or buffer that is being traced, or a part of it."""
    if isinstance(mask, Tensor):
        return mask.dtype
    node = mask.node
    while node.target is operator.getitem:
        node = node.args[0]
    if node.op != "get_attr":
        raise NotWide("an attention mask that is computed")
    root = mask.tracer.root
    return {**dict(root.named_parameters()), **dict(root.named_buffers())}[node.target].dtype


def _encoder_layer(
    layer: nn.TransformerEncoderLayer,
    src: Any,
    src_mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: bool = False,
) -> Any:
    if src_key_padding_mask is not None:
        raise NotWide("a transformer with src_key_padding_mask")

    def attended(x: Any) -> Any:
        return layer.dropout1(layer.self_attn(x, x, x, attn_mask=src_mask, need_weights=False)[0])

    def forwarded(x: Any) -> Any:
        hidden = layer.dropout(layer.activation(layer.linear1(x)))
        return layer.dropout2(layer.linear2(hidden))

    if layer.norm_first:
        x = src + attended(layer.norm1(src))
        return x + forwarded(layer.norm2(x))
    x = layer.norm1(src + attended(src))
    return layer.norm2(x + forwarded(x))


def _encoder(
    encoder: nn.TransformerEncoder,
    src: Any,
    mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: bool | None = None,
) -> Any:
    for layer in encoder.layers:
        src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask)
    return src if encoder.norm is None else encoder.norm(src)


_WORDS: dict[type[nn.Module], Callable[..., Any]] = {
    **dict.fromkeys([nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d], _batch_norm),
    **dict.fromkeys([nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d], _instance_norm),
    **dict.fromkeys([nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d], _dropout),
    **dict.fromkeys([nn.AlphaDropout, nn.FeatureAlphaDropout], _dropout),
    **dict.fromkeys([nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d], _circular_pad),
    nn.Softmax2d: _softmax2d,
    nn.MultiheadAttention: _multihead_attention,
    nn.TransformerEncoderLayer: _encoder_layer,
    nn.TransformerEncoder: _encoder,
}
