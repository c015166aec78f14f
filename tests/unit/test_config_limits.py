"""The limits of the schema and those of the compiled data plane are one list."""

import json

import pytest

from sealmq import _engine
from sealmq.config import schema

ENGINE = json.loads(_engine.default_limits())


def test_the_same_names():
    assert set(ENGINE) == set(schema.Limits.model_fields)


@pytest.mark.parametrize("name", schema.Limits.model_fields)
def test_the_same_default_and_nothing_the_data_plane_would_refuse(name):
    low, high = schema.bounds_of("limits", name)
    assert getattr(schema.Limits(), name) == ENGINE[name]["default"]
    assert low >= ENGINE[name]["min"]
    assert high <= ENGINE[name]["max"]
