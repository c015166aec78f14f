"""The limits of the schema and those of the compiled data plane are one list."""

import json

import pytest

from sealmq import _engine
from sealmq.config import schema

ENGINE = json.loads(_engine.default_limits())


def test_the_same_names():
    assert set(ENGINE) == set(schema.Limits.model_fields)


@pytest.mark.parametrize("name", schema.Limits.model_fields)
def test_the_same_default_and_bounds(name):
    assert getattr(schema.Limits(), name) == ENGINE[name]["default"]
    assert schema.bounds_of("limits", name) == (ENGINE[name]["min"], ENGINE[name]["max"])
