"""A step of training on a GPU that is recorded once, a CUDA graph, and then starts as a whole.

A step is hundreds of launches, and for a small model Python needs longer to ask for them than the
GPU needs to run them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import kernels
from .gpt import GPT
from .nn import check_ids
from .optim import AdamW
from .parallel import accumulate_gradients
from .rng import Key, Rng, as_key


class RecordedStep:
    """step = RecordedStep(model, optimizer, max_norm); step(ids, targets, rng, lr_scale) does what

        loss = accumulate_gradients(model.loss, ids, targets, rng, micro_batches=1)
        norm = optimizer.clip_grad_norm(max_norm)
        optimizer.step(lr_scale)
        optimizer.zero_grad()

    do, with a loss_scale where there is one, and gives (loss, norm), 0-d arrays on the GPU.

    The first call runs all this as it stands, the second records it, others start the recording.
    For a batch of another shape, or in another precision(), it begins anew.

    ids and targets are arrays of the CPU. ValueError for what is wrong in them, for parameters that
    are not float32 on a GPU, an optimizer other than AdamW or Muon, and a mixture of experts.
    """

    def __init__(
        self,
        model: GPT,
        optimizer: AdamW,
        max_norm: float,
        loss_scale: kernels.LossScale | None = None,
    ):
        if not isinstance(optimizer, AdamW) or not optimizer._has_kernels():
            device = "a GPU" if kernels.on_gpu(optimizer.data) else "a CPU"
            raise ValueError(
                "only AdamW or Muon over float32 parameters on a GPU has a step that can be "
                f"recorded, not {type(optimizer).__name__} over {optimizer.data.dtype} on "
                f"{device}; leave out --graph, or call accumulate_gradients() and "
                "optimizer.step() instead"
            )
        if model.config.n_expert is not None:
            raise ValueError(
                "a step of a mixture of experts cannot be recorded: how many tokens each expert "
                "gets is another number in each step, for which Python waits; leave out --graph"
            )
        self.model, self.optimizer = model, optimizer
        self.max_norm, self.loss_scale = max_norm, loss_scale
        self._recorded_for: tuple = ()  # shapes, and how many ints rng has
        self._copy: Any = None  # of the weights, as products take them
        self._play: Any = None  # starts what is recorded; None as long as nothing is

    def __call__(
        self, ids: np.ndarray, targets: np.ndarray, rng: Rng = None, lr_scale: float = 1.0
    ) -> tuple[Any, Any]:
        n, key = self.model.config.vocab_size, as_key(rng)
        ids, targets = check_ids("ids", ids, n), check_ids("targets", targets, n, ignored=-1)
        words = () if key is None else key.words
        recorded_for = (ids.shape, targets.shape, len(words))
        copy = kernels.copy_for_products(self.optimizer.data)
        new = recorded_for != self._recorded_for or copy is not self._copy
        if new or (targets == -1).all():
            self._recorded_for, self._copy, self._play = recorded_for, copy, None
            return self._step(ids, targets, key, lr_scale)
        if self._play is None:
            self._record(ids, targets, key, lr_scale)
        else:
            self.optimizer.count_step(lr_scale)
        self._ids[...], self._targets[...] = ids, targets
        self._feed.send(words)
        self._play()
        result = self._result.copy()  # which the next call writes over
        return result[:1].reshape(()), result[1:].reshape(())

    def _step(self, ids, targets, key: Key | None, lr_scale: float) -> tuple[Any, Any]:
        scale = None if self.loss_scale is None else self.loss_scale.value
        loss = accumulate_gradients(self.model.loss, ids, targets, key, 1, scale)
        norm = self.optimizer.clip_grad_norm(self.max_norm, self.loss_scale)
        self.optimizer.step(lr_scale)
        self.optimizer.zero_grad()
        return loss, norm

    def _record(self, ids, targets, key: Key | None, lr_scale: float) -> None:
        """What is another one in each step gets its place in a feed, and all else is recorded."""
        words = () if key is None else key.words
        feed = self._feed = kernels.Feed(2 * ids.nbytes, words, like=self.optimizer.data)
        self._ids, self._targets = (feed.room(ids.shape, ids.dtype) for _ in range(2))
        self._ids[...], self._targets[...] = ids, targets
        for span in self.optimizer.spans:
            span.numbers = feed.room((3,), "float32")
        step = self._step
        try:
            self._result, self._play = kernels.recorded(
                lambda: np.stack(step(self._ids, self._targets, key, lr_scale)), feed
            )
        except RuntimeError as error:
            raise RuntimeError(
                f"a step of this model cannot be recorded ({error}); leave out --graph"
            ) from error
