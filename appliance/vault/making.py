"""A fresh placeholder for a secret's value, with the system's randomness."""

from __future__ import annotations

import secrets

from appliance.config.schema import SecretSpec
from appliance.model.errors import EnvironmentFailed
from appliance.model.secret import Secret
from appliance.placeholders.shapes import make


def make_placeholder(real: Secret, spec: SecretSpec) -> str:
    """A text of the secret's shape. Raises EnvironmentFailed("secret-shape") that says what to change."""
    try:
        return make(real, spec.shape, secrets.token_bytes)
    except ValueError as error:
        raise EnvironmentFailed(
            "secret-shape", f"secret {spec.name} can be had, but no placeholder can be made for it: {error}"
        ) from None
