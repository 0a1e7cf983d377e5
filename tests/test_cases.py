"""The cases: one for every op, away from kinks, and every op right on every one of them."""

import numpy as np
import pytest
from op_checks import assert_same, check_op, op_of

from tinygpt import ops
from tinygpt.cases import cases


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases()])
def test_value_gradient_views_and_untouched_inputs(case):
    check_op(case.f, *case.arrays, allow_zero=case.allow_zero)


def test_every_op_has_a_case_that_bears_its_name():
    assert {op_of(case).__name__ for case in cases()} == set(ops.__all__)
    for case in cases():
        assert case.name.split(",")[0] == op_of(case).__name__
        assert op_of(case) is getattr(ops, op_of(case).__name__)


@pytest.mark.parametrize("seed", range(20))
def test_no_case_sits_on_a_kink_or_a_tie(seed):
    for case in cases(seed):
        if op_of(case) in (ops.relu, ops.relu2):
            assert np.abs(case.arrays[0]).min() > 1e-3
        if op_of(case) is ops.max:
            assert np.diff(np.sort(case.arrays[0], axis=None)).min() > 1e-3
        if op_of(case) in (ops.log, ops.divide):
            assert np.abs(case.arrays[-1]).min() > 1e-3


def test_ignored_targets_are_among_the_cases():
    ignored = [case for case in cases() if "some ignored" in case.name]
    assert len(ignored) == 2
    for case in ignored:
        assert 0 < (case.arrays[-1] == -1).mean() < 1


def test_the_same_seed_gives_the_same_numbers():
    for once, again in zip(cases(7), cases(7), strict=True):
        for a, b in zip(once.arrays, again.arrays, strict=True):
            assert_same(np.array(a), np.array(b))
