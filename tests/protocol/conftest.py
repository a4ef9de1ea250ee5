"""One Hypothesis profile for the folder: enough examples to find things, few enough for every run."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("protocol", max_examples=100, deadline=None, derandomize=True)
settings.register_profile(
    "long", max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("MLXBRIDGE_HYPOTHESIS", "protocol"))
