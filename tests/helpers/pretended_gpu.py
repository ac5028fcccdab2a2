"""Device code on a machine without a GPU, with real values.

A `Gpu` tensor says that it lies on cuda:0 and holds a CPU tensor, on which everything is computed. As
on a real GPU, tensors of both devices in one operation raise, a CPU generator cannot fill a tensor
there, and `.numpy()` raises. What makes the host wait for the device is recorded with the line of
klom_bench that caused it, and operations are counted. A captured graph is the operations as they were
recorded, run again on the same memory.

Nothing is told of kernels (numerics, determinism, speed), memory and streams.
"""

import sys
from collections import Counter
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

CUDA = torch.device("cuda", 0)
aten = torch.ops.aten
TAKES_BOTH = {
    aten.copy_.default, aten._to_copy.default, aten.index.Tensor, aten.index_put_.default,
    aten._index_put_impl_.default, aten.set_data.default,
}  # fmt: skip
INDEXES = {aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default}
READS = {
    aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default,
    aten.masked_select.default, aten.bincount.default, aten.is_nonzero.default,
    aten._unique2.default, aten.unique_dim.default, aten.repeat_interleave.Tensor,
}  # fmt: skip
"""Operations whose result, or its size, the host must know."""


@dataclass
class Log:
    """What happened: operations by name, waits by what they are and where; views are free."""

    operations: Counter = field(default_factory=Counter)
    waits: Counter = field(default_factory=Counter)
    capturing: list | None = None
    inside: list = field(default_factory=list)

    def wait(self, what):
        if self.capturing is not None:
            raise RuntimeError(f"operation not permitted when stream is capturing: {what}")
        self.waits[f"{what} at {_line()}"] += 1

    def clear(self):
        self.operations.clear()
        self.waits.clear()


LOG = Log()


def _line():
    frame = sys._getframe()
    while frame is not None:
        _, found, name = frame.f_code.co_filename.rpartition("/klom_bench/")
        if found:
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return "outside"


def _is_cuda(device):
    return device is not None and torch.device(device).type == "cuda"


def _innermost(t):
    """What is below functorch's wrappers."""
    while torch._C._functorch.is_functorch_wrapped_tensor(t):
        t = torch._C._functorch.get_unwrapped(t)
    return t


def _on_gpu(t):
    return isinstance(t, torch.Tensor) and isinstance(_innermost(t), Gpu)


def _tensors(tree):
    """What torch's own `tree_leaves` finds of arguments, in a third of the time."""
    if isinstance(tree, torch.Tensor):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree
    return [t for p in parts for t in _tensors(p)] if isinstance(tree, dict | list | tuple) else []


def _mapped(change, tree):
    if isinstance(tree, torch.Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {k: _mapped(change, v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)([_mapped(change, v) for v in tree])
    return tree


def _unwrapped(tree):
    return _mapped(lambda t: t.inner if isinstance(t, Gpu) else t, tree)


@cache
def _has_aliases(func):
    """Whether what comes out may be what went in, as of views and what works in place."""
    return any(a.alias_info is not None for a in func._schema.arguments)


class Gpu(torch.Tensor):
    """Lies on cuda:0, or so it says."""

    @staticmethod
    def __new__(cls, inner):
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, layout=inner.layout, device="cpu", requires_grad=False,
        )  # fmt: skip
        made.inner = inner.detach()
        return made

    def __repr__(self, *args, **kwargs):
        return f"Gpu({tuple(self.shape)}, {self.dtype})"

    def __tensor_flatten__(self):
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner, meta, size, stride):
        return Gpu(inner["inner"])

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _dispatched(func, args, kwargs or {})


def _dispatched(func, args, kwargs):
    """One operation, refused as CUDA refuses it, counted, and computed on what the tensors hold."""
    leaves = _tensors((args, kwargs))
    there = any(isinstance(t, Gpu) for t in leaves)
    if there:
        _refuse(func, leaves, args, kwargs)
    to = kwargs.get("device")
    # What C++ makes inside a call (ones for a BatchNorm under vmap) lies where its inputs lie.
    inside = (
        not leaves and bool(LOG.inside) and LOG.inside[-1] and func is not aten._to_copy.default
    )
    goes = there or _is_cuda(to) or inside
    if goes:
        _note_waits(func, args, to, there)
        if not func.is_view:
            LOG.operations[func] += 1
    here = {**kwargs, "device": torch.device("cpu")} if "device" in kwargs else kwargs
    plain_args, plain_kwargs = _unwrapped(args), _unwrapped(here)
    out = func(*plain_args, **plain_kwargs)
    if goes and LOG.capturing is not None and not func.is_view:
        LOG.capturing.append((func, plain_args, plain_kwargs, out))
    if func is aten._local_scalar_dense.default or not goes:
        return out
    wrapped = _mapped(lambda t: t if isinstance(t, Gpu) else Gpu(t), out)
    if there and _has_aliases(func):
        return return_and_correct_aliasing(func, args, kwargs, wrapped)
    return wrapped


def _refuse(func, leaves, args, kwargs):
    here = [t for t in leaves if not isinstance(t, Gpu)]
    if func not in TAKES_BOTH and any(t.ndim for t in here):
        where = [(tuple(t.shape), "cuda:0" if isinstance(t, Gpu) else "cpu") for t in leaves]
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found cuda:0 and cpu in {func}: {where}"
        )
    if func in INDEXES and not isinstance(args[0], Gpu):
        raise RuntimeError(
            "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
        )
    generator = kwargs.get("generator")
    if isinstance(generator, torch.Generator) and generator.device.type == "cpu":
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")


def _note_waits(func, args, to, there):
    if func in INDEXES:
        indices = _tensors(args[1])
        if any(not isinstance(i, Gpu) for i in indices):
            LOG.wait("CPU indices into a CUDA tensor")
        if any(i.dtype == torch.bool for i in indices):
            LOG.wait("boolean index")
    if func is aten.copy_.default and len({isinstance(t, Gpu) for t in args[:2]}) == 2:
        LOG.wait("copy_ between devices")
    if func is aten._to_copy.default and _is_cuda(to) and not there:
        LOG.wait("host to device")
    if there and func in READS:
        LOG.wait(str(func))


class Factories(TorchDispatchMode):
    """Sees operations on tensors of the CPU, too."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _dispatched(func, args, kwargs or {})


class _ToGpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, t):
        return Gpu(t.clone())

    @staticmethod
    def backward(ctx, g):
        return g.inner if isinstance(g, Gpu) else g


class Api(TorchFunctionMode):
    """What is decided above the dispatcher: devices named in calls, and reading values."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        first = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if first is not None and _on_gpu(first):
            owner = getattr(func, "__self__", None)
            if name == "__get__" and owner in (torch.Tensor.device, torch.Tensor.is_cuda):
                return CUDA if owner is torch.Tensor.device else True
            if name in ("numpy", "__array__"):
                raise TypeError("can't convert cuda:0 device type tensor to numpy")
            if name == "cpu" or (name == "to" and _named(args, kwargs, "cpu")):
                return _read(first, args)
            if name == "tolist":
                LOG.wait("tolist")
                return _innermost(first).inner.tolist()
        if name == "pin_memory":
            pinned = first.clone()
            pinned.pinned = True
            return pinned
        if name == "to" and first is not None:
            moved = _moved(first, args, kwargs)
            if moved is not None:
                return moved
        elif _is_cuda(kwargs.get("device")):
            return _made(func, name, args, kwargs)
        LOG.inside.append(any(map(_on_gpu, _tensors((args, kwargs)))))
        try:
            return func(*args, **kwargs)
        finally:
            LOG.inside.pop()


def _device(args, kwargs):
    named = (a for a in args[1:] if isinstance(a, str | torch.device))
    return next(named, kwargs.get("device"))


def _named(args, kwargs, kind):
    device = _device(args, kwargs)
    return device is not None and torch.device(device).type == kind


def _dtype(args, kwargs):
    return next((a for a in args[1:] if isinstance(a, torch.dtype)), kwargs.get("dtype"))


def _read(t, args):
    LOG.wait("device to host")
    with torch._C.DisableTorchFunction():
        plain = _innermost(t).inner.clone()
    dtype = _dtype(args, {})
    return plain if dtype is None else plain.to(dtype)


def _moved(t, args, kwargs):
    """`t.to(...)` where that names the GPU or a tensor there; None where it does not."""
    like = next((a for a in args[1:] if isinstance(a, torch.Tensor)), None)
    dtype = _dtype(args, kwargs) if like is None else like.dtype
    if not (_named(args, kwargs, "cuda") if like is None else _on_gpu(like)):
        return None
    if _on_gpu(t):
        return t if dtype in (None, t.dtype) else torch.Tensor.to(t, dtype)
    if not (kwargs.get("non_blocking") and getattr(t, "pinned", False)):
        LOG.wait("host to device")
    with torch._C.DisableTorchFunction():
        plain = t if dtype is None else t.to(dtype)
        return _ToGpu.apply(plain) if plain.requires_grad else Gpu(plain.clone())


def _made(func, name, args, kwargs):
    """A factory, such as torch.zeros(..., device="cuda")."""
    generator = kwargs.get("generator")
    if isinstance(generator, torch.Generator) and generator.device.type == "cpu":
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    del kwargs["device"]
    requires_grad = kwargs.pop("requires_grad", False)
    if name in ("tensor", "as_tensor"):
        LOG.wait("host to device")
    with torch._C.DisableTorchFunction():
        made = Gpu(func(*_unwrapped(args), **_unwrapped(kwargs)))
    LOG.operations[f"factory {name}"] += 1
    return made.requires_grad_() if requires_grad else made


class Inline:
    """In place of a thread pool: modes belong to a thread."""

    def __init__(self, *args, **kwargs):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *args):
        return False

    def submit(self, function, *args):
        future = Future()
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)
        return future


class Stream:
    """There is one: all is done in turn."""

    def __init__(self, *args):
        pass

    def wait_stream(self, other):
        pass


class Graph:
    """As torch.cuda.CUDAGraph: what was done while it was captured, again and on the same memory."""

    def __init__(self):
        self.recorded = []

    def replay(self):
        LOG.operations["graph"] += 1
        with torch._C.DisableTorchFunction(), torch.no_grad():
            for func, args, kwargs, out in self.recorded:
                for then, now in zip(_tensors(out), _tensors(func(*args, **kwargs)), strict=True):
                    if then is not now:
                        then.copy_(now)


@contextmanager
def capturing(graph, **_):
    """As torch.cuda.graph."""
    LOG.capturing = graph.recorded
    try:
        yield
    finally:
        LOG.capturing = None


@contextmanager
def pretended_gpu():
    """As if there were one GPU; gives the `Log`."""
    from klom_bench.engine import threads as engine
    from klom_bench.ensemble import threads

    on_cpu = torch.autocast
    LOG.clear()
    patches = {
        (torch.cuda, "is_available"): lambda: True,
        (torch.cuda, "device_count"): lambda: 1,
        (torch.cuda, "synchronize"): lambda *_: LOG.wait("torch.cuda.synchronize"),
        (torch.cuda, "get_device_name"): lambda *_: "pretended",
        (torch.cuda, "is_current_stream_capturing"): lambda: LOG.capturing is not None,
        (torch.cuda, "reset_peak_memory_stats"): lambda *_: None,
        (torch.cuda, "max_memory_allocated"): lambda *_: 0,
        (torch.cuda, "CUDAGraph"): Graph,
        (torch.cuda, "graph"): capturing,
        (torch.cuda, "Stream"): Stream,
        (torch.cuda, "current_stream"): Stream,
        (torch.cuda, "stream"): nullcontext,
        (torch, "autocast"): lambda kind, dtype=None, enabled=True: on_cpu("cpu", dtype, enabled),
        (threads, "ThreadPoolExecutor"): Inline,
        (engine, "ThreadPoolExecutor"): Inline,
    }
    health = "_accelerator_graph_capture_health_check"  # asks the driver
    if hasattr(torch.optim.Optimizer, health):
        patches[torch.optim.Optimizer, health] = lambda self: None
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    with ExitStack() as stack:
        for (owner, name), value in patches.items():
            stack.enter_context(mock.patch.object(owner, name, value))
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrite)
        stack.enter_context(Factories())
        stack.enter_context(Api())
        yield LOG
