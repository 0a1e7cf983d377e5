"""Optimizers over flat buffers: all parameters are one array, all gradients another."""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import kernels
from .backend import as_array, one_blas_thread, thread_map, threads
from .tensor import Tensor

BLOCK = 1 << 17  # elements at a time: few enough for the cache, enough to be worth the calls

_owners: weakref.WeakKeyDictionary[Tensor, weakref.ref] = weakref.WeakKeyDictionary()


@dataclass
class Span:
    """A stretch of the flat buffers whose parameters are treated alike."""

    params: list[Tensor]
    kind: str  # "matrix", "table" (rows looked up one by one) or "vector" (below 2 dimensions)
    group: dict[str, Any]  # the options of the group of parameters they came in
    start: int
    stop: int
    # What kernels get that is another in each step, see AdamW._numbers.
    numbers: np.ndarray = field(default_factory=lambda: np.zeros(3, "float32"))


class Optimizer:
    """What optimizers share: the flat buffers, clipping, saving.

    Building one moves p.data and p.grad of every parameter into `data` and `grad`, two flat arrays,
    so that what is done to all of them is one pass. Frozen parameters (requires_grad False) are
    left out. params: a list of parameters, or of dicts {"params": [...], "lr": ..., ...} with
    options of their own, as in PyTorch.
    """

    state_names: tuple[str, ...] = ()  # the flat buffers besides data and grad

    def __init__(self, params: Iterable, **defaults: Any):
        if not isinstance(params, Iterable):
            raise TypeError(
                f"an optimizer takes a list of parameters, not {type(params).__name__}; "
                "try model.parameters()"
            )
        params = list(params)
        groups = params if params and isinstance(params[0], dict) else [{"params": params}]
        self.param_groups: list[dict[str, Any]] = [{**defaults, **group} for group in groups]
        for group in self.param_groups:
            unknown = sorted(set(group) - {"params", *defaults})
            if unknown:
                raise ValueError(f"unknown options {unknown}; there are {sorted(defaults)}")
            _check_group(group)
            group["params"] = [p for p in group["params"] if p.requires_grad]
        self.steps = 0
        self._norm: Any = None  # of the gradients, where a GPU is to decide whether to step
        self._lay_out()

    def _lay_out(self) -> None:
        """Give each parameter its place in the buffers: by group, and by kind within a group."""
        self.spans: list[Span] = []
        at = 0
        for group in self.param_groups:
            for kind in ("matrix", "table", "vector"):
                params = [p for p in group["params"] if _kind(p) == kind]
                if params:
                    size = sum(p.size for p in params)
                    self.spans.append(Span(params, kind, group, at, at + size))
                    at += size
        ordered = [p for span in self.spans for p in span.params]
        _check(ordered)

        like = ordered[0].data
        self.data = np.empty(at, like.dtype, like=like)
        self.grad = np.zeros(at, like.dtype, like=like)
        for name in self.state_names:
            setattr(self, name, np.zeros(at, like.dtype, like=like))
        self._places: list[tuple[Tensor, Any, Any]] = []  # a parameter, and where it now lives
        at = 0
        for p in ordered:
            here = slice(at, at + p.size)
            data, grad = self.data[here].reshape(p.shape), self.grad[here].reshape(p.shape)
            data[...] = p.data
            if p.grad is not None:
                grad[...] = p.grad
            p.data, p.grad = data, grad
            self._places.append((p, data, grad))
            _owners[p] = weakref.ref(self)
            at += p.size

    def step(self, lr_scale: float = 1.0) -> None:
        """Update the parameters from their gradients, each learning rate times lr_scale (what a
        schedule gives)."""
        self.count_step(lr_scale)
        jobs = [job for span in self.spans for job in self._jobs(span, lr_scale)]
        if self._has_kernels():  # a GPU has one queue, and one thread to fill it
            for job in jobs:
                job()
        else:
            _run(jobs)
        self._norm = None

    def count_step(self, lr_scale: float) -> None:
        """What step() does on the CPU, wherever the rest of it happens (see recorded_step.py)."""
        self._check_places()
        self.steps += 1

    def _jobs(self, span: Span, lr_scale: float) -> list[Callable]:
        """The update of a span, in pieces that do not touch each other: call them all."""
        raise NotImplementedError

    def zero_grad(self) -> None:
        """Set every gradient to 0."""
        self._check_places()
        self.grad[...] = 0

    def clip_grad_norm(self, max_norm: float, loss_scale: kernels.LossScale | None = None) -> Any:
        """Scale the gradients so that their norm, taken over all of them, is at most max_norm.

        loss_scale: what the loss was scaled by, for float16 on a GPU; undone here, and updated.

        Returns the norm before, a 0-d array. Where it is not finite, the gradients stay as they
        are on a CPU. On a GPU, where to look at the norm is to wait for it, they become 0, and the
        next step of AdamW or Muon changes nothing.
        Pascanu et al. 2013, arXiv:1211.5063, algorithm 1.
        """
        self._check_places()
        if not max_norm > 0:
            raise ValueError(f"max_norm must be above 0, not {max_norm}")

        def square(block):
            return self.grad[block] @ self.grad[block]

        if self._has_kernels():
            scale = None if loss_scale is None else loss_scale.value
            self._norm = kernels.clip(self.grad, max_norm, scale)
            if loss_scale is not None:
                loss_scale.update(self._norm)
            return self._norm
        norm = as_array(np.sqrt(sum(_run(_blockwise(square, 0, self.grad.size)))))
        if max_norm < norm < math.inf:
            self.grad *= max_norm / (float(norm) + 1e-6)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """{"steps": int, and the flat arrays by name}: what load_state_dict needs to go on."""
        return {"steps": self.steps, **{name: getattr(self, name) for name in self.state_names}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where an optimizer over the same parameters was, given in the same order.

        ValueError, and no change, where names or sizes differ.
        """
        wanted = {"steps", *self.state_names}
        if set(state) != wanted:
            raise ValueError(f"{type(self).__name__} needs {sorted(wanted)}, got {sorted(state)}")
        for name in self.state_names:
            if np.shape(state[name]) != self.data.shape:
                raise ValueError(f"{name} has shape {np.shape(state[name])}, not {self.data.shape}")
        for name in self.state_names:
            getattr(self, name)[...] = np.asarray(state[name], like=self.data)
        self.steps = int(state["steps"])

    def _has_kernels(self) -> bool:
        """Whether the buffers are on a GPU, in a dtype that our kernels take in one pass."""
        return kernels.on_gpu(self.data) and self.data.dtype == np.float32

    def _check_places(self) -> None:
        for p, data, grad in self._places:
            if p.data is not data or p.grad is not grad:
                raise RuntimeError(
                    "the .data or .grad of a parameter was replaced after the optimizer was built; "
                    "write into it instead (p.data[...] = x), and use optimizer.zero_grad()"
                )


class SGD(Optimizer):
    """w -= lr (g + weight_decay w), with momentum: g is replaced by m = momentum m + g.

    As in PyTorch; weight decay only for parameters of two or more dimensions.
    """

    state_names = ("momentum_buffer",)
    momentum_buffer: Any

    def __init__(
        self, params: Iterable, lr: float = 1e-2, momentum: float = 0.0, weight_decay: float = 0.0
    ):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)

    def _jobs(self, span: Span, lr_scale: float) -> list[Callable]:
        lr, momentum = span.group["lr"] * lr_scale, span.group["momentum"]
        decay = _weight_decay(span)

        def update(block):
            w, g, m = self.data[block], self.grad[block], self.momentum_buffer[block]
            m *= momentum
            m += g
            if decay:
                m += decay * w
            w -= lr * m

        return _blockwise(update, span.start, span.stop)


class AdamW(Optimizer):
    """w -= lr (m_hat / (sqrt(v_hat) + eps) + weight_decay w): running means m of g, v of g^2.

        m = b1 m + (1 - b1) g        m_hat = m / (1 - b1^t)
        v = b2 v + (1 - b2) g^2      v_hat = v / (1 - b2^t)
    Kingma & Ba 2014, arXiv:1412.6980, algorithm 1, with the decay taken out of the gradient as in
    Loshchilov & Hutter 2017, arXiv:1711.05101, algorithm 2. Weight decay only for parameters of two
    or more dimensions.
    """

    state_names = ("exp_avg", "exp_avg_sq")
    exp_avg: Any
    exp_avg_sq: Any

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def count_step(self, lr_scale: float) -> None:
        super().count_step(lr_scale)
        if self._has_kernels():
            for span in self.spans:
                span.numbers[...] = self._numbers(span, lr_scale)

    def _numbers(self, span: Span, lr_scale: float) -> tuple[float, float, float]:
        """root, step and shrink: what an update needs besides the betas and eps."""
        b1, b2 = span.group["betas"]
        lr = self._lr(span) * lr_scale
        shrink = 1 - lr * _weight_decay(span)
        step = lr / (1 - b1**self.steps)
        root = 1 / math.sqrt(1 - b2**self.steps)
        return root, step, shrink

    def _lr(self, span: Span) -> float:
        return span.group["lr"]

    def _copy(self, here: slice) -> Any:
        """Where a GPU's products take a copy of the weights, a stretch of it; else None."""
        copy = kernels.copy_for_products(self.data)
        return None if copy is None else copy[here]

    def _jobs(self, span: Span, lr_scale: float) -> list[Callable]:
        (b1, b2), eps = span.group["betas"], span.group["eps"]
        if self._has_kernels():
            here = slice(span.start, span.stop)
            arrays = (self.data[here], self.exp_avg[here], self.exp_avg_sq[here], self.grad[here])
            numbers = kernels.sent(span.numbers, self.data)
            rest = (numbers, b1, b2, eps, self._norm, self._copy(here))
            return [functools.partial(kernels.adamw, *arrays, *rest)]
        root, step, shrink = self._numbers(span, lr_scale)

        def update(block):
            w, g = self.data[block], self.grad[block]
            m, v = self.exp_avg[block], self.exp_avg_sq[block]
            m *= b1
            m += (1 - b1) * g
            v *= b2
            g2 = g * g
            g2 *= 1 - b2
            v += g2
            d = np.sqrt(v, out=g2)
            d *= root
            d += eps
            np.divide(m, d, out=d)
            d *= step
            if shrink != 1:
                w *= shrink
            w -= d

        return _blockwise(update, span.start, span.stop)


class Muon(AdamW):
    """For matrices, w -= lr sqrt(max(1, n_out / n_in)) orthogonal(g + momentum m).

    m = momentum m + g, the running gradient.
    orthogonal(u) has the singular vectors of u and singular values near 1: every direction in which
    a matrix can move gets a step of the same length. Embedding, head and vectors go by AdamW, at
    adamw_lr. weight_decay as in AdamW. Jordan et al. 2024, "Muon: An optimizer for hidden layers in
    neural networks". The momentum of matrices is kept in exp_avg.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        adamw_lr: float = 3e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
    ):
        Optimizer.__init__(
            self, params, lr=lr, momentum=momentum, weight_decay=weight_decay,
            adamw_lr=adamw_lr, betas=betas, eps=eps,
        )  # fmt: skip

    def _lr(self, span: Span) -> float:
        return span.group["lr" if span.kind == "matrix" else "adamw_lr"]

    def _numbers(self, span: Span, lr_scale: float) -> tuple[float, float, float]:
        root, step, shrink = super()._numbers(span, lr_scale)
        if span.kind == "matrix":
            step = self._lr(span) * lr_scale
        return root, step, shrink

    def _jobs(self, span: Span, lr_scale: float) -> list[Callable]:
        if span.kind != "matrix":
            return super()._jobs(span, lr_scale)
        momentum = span.group["momentum"]
        _, lr, shrink = self._numbers(span, lr_scale)
        on_gpu = self._has_kernels()
        numbers = kernels.sent(span.numbers, self.data) if on_gpu else None

        def update(p, here):
            w, g, m = p.data, p.grad, self.exp_avg[here].reshape(p.shape)
            n_in, n_out = p.shape
            scale = math.sqrt(max(1.0, n_out / n_in))
            if on_gpu:
                rest = (numbers, scale, momentum, JORDAN, self._norm, self._copy(here))
                kernels.muon(w, m, g, *rest)
                return
            m *= momentum
            m += g
            direction = orthogonal(g + momentum * m)
            w *= shrink
            w -= (lr * scale) * direction

        jobs, at = [], span.start
        for p in span.params:
            jobs.append((p.size, functools.partial(update, p, slice(at, at + p.size))))
            at += p.size
        jobs.sort(key=lambda job: -job[0])  # large ones first, so that no thread ends late
        return [job for _, job in jobs]


JORDAN = (3.4445, -4.7750, 2.0315)  # the coefficients a, b and c


def orthogonal(u: Any) -> Any:
    """A matrix with the singular vectors of u (n, m) and singular values of about 1 (0.7 to 1.2).

    Five rounds of s -> a s + b s^3 + c s^5 on the singular values (Newton-Schulz), with Jordan's
    a, b and c, which lift small values fastest and do not settle. As matrix products:
        x -> q x    for q = a + b g + c g^2,  g = x x^T       (all of them symmetric)
    after which g is q g q. So x is needed only before the first round and after the last: all else
    are products of (n, n) matrices, n being the smaller side.
    """
    if u.shape[0] > u.shape[1]:
        return orthogonal(u.T).T
    a, b, c = JORDAN
    x = u / (np.sqrt((u * u).sum()) + 1e-7)  # now every singular value is at most 1
    one = np.identity(len(x), x.dtype, like=x)

    def round_of(g):
        return a * one + (b * one + c * g) @ g

    g = x @ x.T
    rounds = q = round_of(g)
    for _ in range(4):
        g = q @ g @ q
        q = round_of(g)
        rounds = q @ rounds
    return rounds @ x


# ---- schedules: by which factor to scale the learning rate at a step ----------------------------


def warmup_cosine(step: int, steps: int, warmup: int = 0, final: float = 0.1) -> float:
    """Up from near 0 over the first `warmup` steps, then half a cosine from 1 down to `final` at
    step `steps`."""
    return _after_warmup(
        step, steps, warmup, final, lambda done: (1 + math.cos(math.pi * done)) / 2
    )


def warmup_linear(step: int, steps: int, warmup: int = 0, final: float = 0.0) -> float:
    """Up from near 0 over the first `warmup` steps, then straight from 1 down to `final`."""
    return _after_warmup(step, steps, warmup, final, lambda done: 1 - done)


def warmup_constant(step: int, steps: int, warmup: int = 0, final: float = 1.0) -> float:
    """Up from near 0 over the first `warmup` steps, then 1 (`steps` and `final` change nothing)."""
    return _after_warmup(step, steps, warmup, 1.0, lambda done: 1.0)


def _after_warmup(step: int, steps: int, warmup: int, final: float, shape: Callable) -> float:
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return final + (1 - final) * shape(done)


# ---- small things -------------------------------------------------------------------------------


def _kind(p: Tensor) -> str:
    if p.ndim < 2:
        return "vector"
    return "table" if getattr(p, "is_table", False) or p.ndim > 2 else "matrix"


def _weight_decay(span: Span) -> float:
    return 0.0 if span.kind == "vector" else span.group["weight_decay"]


def _blockwise(f: Callable, start: int, stop: int) -> list[Callable]:
    """The jobs f(block), for all blocks of start .. stop."""
    blocks = [slice(i, min(i + BLOCK, stop)) for i in range(start, stop, BLOCK)]
    return [functools.partial(f, block) for block in blocks]


def _run(jobs: list[Callable]) -> list:
    """[job() for job in jobs], in order; every core takes a share."""
    n = min(threads(), len(jobs))
    with one_blas_thread():
        shares = thread_map(lambda i: [job() for job in jobs[i::n]], range(n))
    return [shares[i % n][i // n] for i in range(len(jobs))]


def _check_group(group: dict[str, Any]) -> None:
    """Parameters must be Tensors, and their options numbers that can work."""
    group["params"] = list(group.get("params", [None]))
    if not all(isinstance(p, Tensor) for p in group["params"]):
        raise TypeError('a group is {"params": [...]} and options, and parameters are Tensors')
    if "betas" in group and np.shape(group["betas"]) != (2,):
        raise ValueError(f"betas must be two numbers, not {group['betas']!r}")
    for name in group.keys() - {"params"}:
        numbers = group[name] if name == "betas" else [group[name]]
        means = name in ("betas", "momentum")  # of running means: 1 would never forget
        end = 1 if means else math.inf
        if not all(isinstance(n, int | float | np.number) and 0 <= n < end for n in numbers):
            limit = "at least 0 and below 1" if means else "a finite number from 0 up"
            raise ValueError(f"{name} must be {limit}, not {group[name]!r}")


def _check(params: list[Tensor]) -> None:
    if not params:
        raise ValueError("an optimizer needs parameters, and got none that requires a gradient")
    if len({id(p) for p in params}) != len(params):
        raise ValueError("a parameter was given twice")
    for p in params:
        owner = _owners[p]() if p in _owners else None
        if owner is not None:
            raise ValueError(
                f"a parameter of shape {p.shape} is in the buffers of another "
                f"{type(owner).__name__}, and can be in one only; delete that one (del optimizer)"
            )
        if p.dtype != params[0].dtype:
            raise ValueError(f"parameters must have one dtype, not {p.dtype} and {params[0].dtype}")
