"""By how much a loss is scaled, so that its gradients keep to what float16 can hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from .launch import launch

START, GROW_AFTER = 2.0**16, 2000


class LossScale:
    """The scale of a loss, on the GPU: double after 2000 good steps in a row, half after a bad one.

    A step is bad where the norm of its gradients is not finite: then AdamW leaves everything as it
    was. Micikevicius et al. 2017, arXiv:1710.03740, section 3.2; that the scale goes up and down by
    itself is what the training libraries made of it.

        scale = LossScale(like=optimizer.data)
        accumulate_gradients(model.loss, ids, targets, loss_scale=scale.value)
        optimizer.clip_grad_norm(1.0, scale)          # undoes the scale, and changes it
    """

    def __init__(self, like: Any, state: Any = (START, 0, 0)):
        # the scale, how many good steps there were in a row, and how many bad ones in all
        self.state = np.asarray(np.array(state, "float32"), like=like)

    @property
    def value(self) -> Any:
        """The scale, a 0-d array."""
        return self.state[:1].reshape(())

    def update(self, norm: Any) -> None:
        """Change the scale, after a step whose gradients had this norm."""
        launch("clip.cu", "change_scale", norm, (1,), (1,), (self.state, norm, GROW_AFTER))
